"""How the three dialects end an answer: whole, cut, empty, or with calls that aren't the client's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.anthropic.events import MessagesDecoder
from providers.base import Tool, Usage
from providers.endpoint import Endpoint
from providers.errors.failures import Failures
from providers.openai.chat_chunks import ChatDecoder
from providers.openai.responses_events import ResponsesDecoder
from providers.quirks import Quirks
from tests.answers import Answer, decode_events
from tests.provider_requests import chat_request

FAILURES = Failures(Endpoint("x", "X", "", ()))


def chat(*choices: dict[str, Any], tools: list[str] | None = None) -> Answer:
    request = None if tools is None else chat_request(tools=tuple(Tool(name) for name in tools))
    return decode_events(ChatDecoder(Quirks(), FAILURES, request), *({"choices": [choice]} for choice in choices))


def delta(finish: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": fields, "finish_reason": finish}


def call(arguments: Any, name: str = "f", kind: str = "function") -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "id": "c", "type": kind, "function": {"name": name, "arguments": arguments}}]}


def messages(*events: dict[str, Any]) -> Answer:
    return decode_events(MessagesDecoder(FAILURES), *events)


def block(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}}


def arguments(index: int, piece: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": piece}}


def stopped(reason: str, **usage: int) -> list[dict[str, Any]]:
    return [{"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}, {"type": "message_stop"}]


def responses(*events: dict[str, Any], tools: list[str] | None = None, **last: Any) -> Answer:
    kind = last.setdefault("status", "completed")
    ending = {"type": f"response.{kind}", "response": last}
    return decode_events(ResponsesDecoder(Quirks(), FAILURES, tools=tools), *events, ending)


def item(kind: str, at: int | None = None, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.output_item.{kind}", "output_index": at, "item": fields}


def half_call(dialect: str, finish: str) -> Answer:
    if dialect == "chat":
        return chat(delta(**call('{"a":')), delta({"tool_use": "tool_calls"}.get(finish, finish)))
    if dialect == "messages":
        return messages(block(0, "tool_use", id="t", name="f"), arguments(0, '{"a":'), *stopped(finish))
    half = {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":'}
    status = "incomplete" if finish == "length" else "completed"
    return responses(item("added", 0, **half), item("done", 0, **half), status=status)


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_half_a_call(dialect: str) -> None:
    """A call whose arguments broke off isn't a whole answer, unless the answer says that it was cut."""
    for finish in ("stop", "tool_use"):
        answer = half_call(dialect, finish)
        assert (answer.code, answer.finish, answer.parts) == ("upstream_incomplete", None, [("tool_call", '{"a":')])
    answer = half_call(dialect, "length")
    assert (answer.code, answer.finish, answer.parts) == (None, "length", [("tool_call", '{"a":')])


def test_text_as_arguments_is_kept() -> None:
    """Arguments that are no JSON, or JSON of another type, are passed on as they are."""
    for text in ("write it", '"text"', "[1]", "7", "{'a': 1}"):
        assert chat(delta(**call(text)), delta("tool_calls")).parts == [("tool_call", text)]
    assert chat(delta(**call("null")), delta("tool_calls")).parts == [("tool_call", "{}")]


def test_no_content_but_output_tokens() -> None:
    """An answer with output tokens but without a part is incomplete. One that was cut or filtered says so itself."""
    paid = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 9}}
    for finish, code in (("stop", "upstream_incomplete"), ("length", None), ("content_filter", None)):
        answer = decode_events(ChatDecoder(Quirks(), FAILURES), {"choices": [delta(finish)]}, paid)
        assert (answer.code, answer.usage) == (code, Usage(1, 9))
    assert messages(*stopped("end_turn", output_tokens=9)).code == "upstream_incomplete"
    assert messages(*stopped("end_turn", output_tokens=0)).finish == "stop"
    assert responses(usage={"input_tokens": 1, "output_tokens": 9}, output=[]).code == "upstream_incomplete"


def test_calls_that_the_provider_runs() -> None:
    """A call that the provider runs itself is no part, and the client isn't asked to answer it."""
    search = call('{"q":"x"}', "$web_search", "builtin_function")
    assert chat(delta(content="a"), delta(**search), delta("tool_calls")).finish == "stop"
    answer = chat(
        delta(**search), delta(tool_calls=[{"index": 1, "function": {"name": "f", "arguments": "{}"}}]), delta("stop")
    )
    assert ([part.name for part in answer.started], answer.finish) == (["f"], "tool_calls")
    own = chat(delta(**search), delta("tool_calls"), tools=["$web_search"])
    assert (own.parts, own.finish) == ([("tool_call", '{"q":"x"}')], "tool_calls")
    for kind in ("server_tool_use", "mcp_tool_use"):
        used = [block(0, kind, id="s", name="web_search", input={}), arguments(0, "{}")]
        answer = messages(*used, block(1, "text", text="a"), *stopped("tool_use"))
        assert (answer.parts, answer.finish) == ([("text", "a")], "stop")
    custom = item("done", 0, type="custom_tool_call", call_id="xs_1", name="x_keyword_search", input="{}")
    said = {"type": "response.output_text.delta", "output_index": 1, "delta": "a"}
    for tools in (None, [], ["f"]):
        answer = responses(custom, said, tools=tools)
        assert (answer.parts, answer.finish) == ([("text", "a")], "stop")
    assert responses(custom, said, tools=["x_keyword_search"]).finish == "tool_calls"
    custom["item"]["name"] = "search_of_tomorrow"
    assert responses(custom, said, tools=["f"]).finish == "stop"


START = {"type": "message_start", "message": {"usage": {"input_tokens": 1}}}


def test_a_second_message() -> None:
    """A second `message_start` after text or a call, or in a block, ends the answer as broken. A repeated one doesn't."""
    text = [block(0, "text", text="Hello"), {"type": "content_block_stop", "index": 0}]
    assert messages(START, START, *text, *stopped("end_turn")).parts == [("text", "Hello")]
    for begun in (text, [block(0, "tool_use", id="t", name="f"), arguments(0, '{"a"')], [block(0, "thinking")]):
        assert messages(START, *begun, START, *text, *stopped("end_turn")).code == "upstream_incomplete"
    finished = [START, *text, stopped("end_turn")[0], START, *text]
    assert (messages(*finished).parts, messages(*finished).finish) == ([("text", "Hello")], "stop")


def test_a_block_that_never_stops() -> None:
    """A second call with the index of one that never stopped doesn't change it, and missing arguments go to their call."""
    first, second = block(0, "tool_use", id="a", name="f"), block(0, "tool_use", id="b", name="g")
    answer = messages(first, arguments(0, '{"x":1}'), second, *stopped("tool_use"))
    assert answer.parts == [("tool_call", '{"x":1}'), ("tool_call", "{}")]
    answer = messages(block(0, "text", text="a"), block(1, "tool_use", id="b", name="g"), *stopped("tool_use"))
    assert answer.parts == [("text", "a"), ("tool_call", "{}")]


def test_where_messages_stop() -> None:
    """The stop reason may be in `message_stop`, which may be missing. A pause ends the answer only if `message_stop` follows."""
    text = block(0, "text", text="a")
    assert messages(text, {"type": "message_stop", "stop_reason": "end_turn"}).finish == "stop"
    assert messages(text, {"type": "message_stop", "message": {"stop_reason": "max_tokens"}}).finish == "length"
    assert messages(text, stopped("end_turn")[0]).finish == "stop"
    assert messages(text, stopped("pause_turn")[0]).code == "upstream_incomplete"
    assert messages(text, *stopped("pause_turn")).finish == "length"
    whole = {"type": "message_start", "message": {"content": [{"type": "text", "text": "Hello"}]}}
    assert messages(whole, *stopped("end_turn")).parts == [("text", "Hello")]
    assert messages(whole, text, *stopped("end_turn")).parts == [("text", "a")]


@pytest.mark.parametrize("word", ["null", "unset", "something_new", "UNSPECIFIED"])
def test_words_that_end_nothing(word: str) -> None:
    """An unknown word in each chunk doesn't end the answer: more may follow, and without an ending it is incomplete."""
    decoder = ChatDecoder(Quirks(), FAILURES)
    decoder.decode_event(None, json.dumps({"choices": [delta(word, content="a")]}).encode())
    assert not decoder.finishing
    assert chat(delta(word, content="a"), delta(word, content="b"), delta("stop")).text() == "ab"
    answer = chat(delta(word, content="a"))
    assert answer.code == "upstream_incomplete"
    assert answer.error is not None
    assert word in answer.error.detail
    assert chat(delta("stop", content="a"), delta(word)).finish == "stop"


def test_the_only_choice_has_another_index() -> None:
    """A choice with another index is decoded if there is none with the index 0."""
    assert chat(delta(index=1, content="a"), delta("stop", index=1)).parts == [("text", "a")]
    many = [delta(index=1, content=str(number % 10)) for number in range(30)]
    assert chat(*many, delta("stop", index=1)).text() == "0123456789" * 3
    answer = chat(delta(index=1, content="b"), delta(content="a"), delta("length", index=1), delta("stop"))
    assert (answer.parts, answer.finish) == ([("text", "a")], "stop")


def text_item(text: str, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text}], **fields}


def test_what_only_the_last_event_says() -> None:
    """What only the whole response has is added at its end, and nothing is said twice."""
    said = {"type": "response.output_text.delta", "output_index": 0, "delta": "Hel"}
    called = {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}'}
    both = [("text", "Hello"), ("tool_call", '{"a":1}')]
    assert responses(said, output=[text_item("Hello"), called]).parts == both
    assert responses(said, output=[{"type": "reasoning"}, text_item("Hello"), called]).parts == both
    done = {"type": "response.output_text.done", "output_index": 0, "text": "Hello"}
    assert responses(said, done, item("done", 1, **called), output=[text_item("Hello"), called]).parts == both
    by_id = {"type": "response.output_text.delta", "item_id": "m", "delta": "Hel"}
    assert responses(by_id, output=[called, text_item("Hello", id="m")]).parts == both
    assert responses(said, output=[text_item("Hel"), text_item("lo")]).parts == [("text", "Hel"), ("text", "lo")]
    one_index = [said, said | {"delta": "lo"}]
    assert responses(*one_index, output=[text_item("Hel"), text_item("lo")]).parts == [("text", "Hello")]
    assert responses(output=[text_item("Hi"), text_item("Hi")]).parts == [("text", "Hi"), ("text", "Hi")]


def test_reasoning_that_only_the_last_event_says() -> None:
    """A longer summary fills up the reasoning, and its signature is taken once."""
    kind = "response.reasoning_summary_text"
    said = {"type": f"{kind}.delta", "output_index": 0, "summary_index": 0, "delta": "On"}
    done = {"type": f"{kind}.done", "output_index": 0, "summary_index": 0, "text": "One"}
    whole = {
        "type": "reasoning",
        "id": "rs",
        "encrypted_content": "g",
        "summary": [{"type": "summary_text", "text": text} for text in ("One", "Two")],
    }
    for events in ([said], [said, done], [said, item("done", 0, **whole)]):
        answer = responses(*events, output=[whole, text_item("a")])
        assert answer.parts == [("reasoning", "One\n\nTwo"), ("text", "a")]
        assert answer.signatures == {0: "rs:g"}


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_a_call_without_a_name(dialect: str) -> None:
    """An answer with a call that has no name is incomplete, because nobody can answer such a call."""
    if dialect == "chat":
        answer = chat(delta(content="a"), delta(**call('{"a":1}', name="")), delta("tool_calls"))
    elif dialect == "messages":
        answer = messages(block(0, "tool_use", id="t"), arguments(0, '{"a":1}'), *stopped("tool_use"))
    else:
        nameless = {"type": "function_call", "call_id": "c", "arguments": "{}"}
        text = {"type": "response.output_text.delta", "output_index": 0, "delta": "a"}
        answer = responses(text, item("done", 1, **nameless))
    assert (answer.code, answer.finish) == ("upstream_incomplete", None)


def test_tool_calls_that_are_missing() -> None:
    """An answer that ends with tool calls and has no part isn't whole."""
    assert chat(delta("tool_calls")).code == "upstream_incomplete"


def test_calls_with_one_index() -> None:
    """In Responses, the item's id tells calls with one index apart."""
    events = [item("added", 0, type="function_call", id=f"i{n}", call_id=f"c{n}", name="f") for n in (1, 2)]
    for n in (1, 2):
        name = "response.function_call_arguments.delta"
        events.append({"type": name, "output_index": 0, "item_id": f"i{n}", "delta": f'{{"n":{n}}}'})
    assert responses(*events).parts == [("tool_call", '{"n":1}'), ("tool_call", '{"n":2}')]


def test_a_content_that_is_a_text() -> None:
    """A text in place of a list of pieces is read as one piece."""
    assert responses(item("done", 0, type="message", content="a")).parts == [("text", "a")]
    start = {"type": "message_start", "message": {"content": "a"}}
    assert messages(start, *stopped("end_turn")).parts == [("text", "a")]


def test_failures_of_minimax() -> None:
    """MiniMax's status is read in all dialects."""
    failed = {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}
    assert messages(failed).code == responses(failed).code == "upstream_rate_limited"
    assert messages({"error": True, "message": "rate limit reached"}).code == "upstream_rate_limited"


def test_other_forms_of_calls_in_chat() -> None:
    """One call may come without a list, in both fields, or be the provider's own."""
    only = call('{"a":1}')["tool_calls"][0]
    expected = [("tool_call", '{"a":1}')]
    assert chat(delta(tool_calls=only), delta("tool_calls")).parts == expected
    assert chat(delta(tool_calls=[only], function_call=only["function"]), delta("tool_calls")).parts == expected
    hosted = chat(delta(tool_calls=[only | {"type": "mcp"}]), delta(content="a"), delta("tool_calls"))
    assert (hosted.parts, hosted.finish) == ([("text", "a")], "stop")
