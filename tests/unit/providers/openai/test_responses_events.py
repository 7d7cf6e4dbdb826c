"""Responses events as deltas, without any network: the shapes of those who serve it, with and without their pieces."""

import json
from typing import Any

import pytest

from providers.base import ProviderError, Usage
from providers.errors.failures import Failures
from providers.http.sse import InvalidEvent
from providers.openai.responses_events import ResponsesDecoder
from providers.route import Endpoint, Quirks
from tests.answers import Answer

FAILURES = Failures(Endpoint("openai", "OpenAI", "", ("OPENAI_API_KEY",)))
USAGE = {"input_tokens": 3, "output_tokens": 5}


def decode(*events: dict[str, Any] | bytes, **quirks: Any) -> Answer:
    """The answer that these events are; `response.` before their types may be left out."""
    decoder = ResponsesDecoder(Quirks(**quirks), FAILURES)
    answer = Answer()
    try:
        for event in events:
            decoder.decode_event(None, event if isinstance(event, bytes) else json.dumps(event).encode())
            answer.add(decoder.parts.drain())
        decoder.end()
    except ProviderError as error:
        answer.error = error
    answer.add(decoder.parts.drain())
    return answer


def ev(kind: str, at: int | None = 0, **fields: Any) -> dict[str, Any]:
    index = {} if at is None else {"output_index": at}
    return {"type": f"response.{kind}", **index, **fields}


def ended(kind: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "response": {"status": kind, "usage": USAGE, **fields}}


def message(*texts: str, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text} for text in texts], **fields}


def called(arguments: Any = '{"a":1}', **fields: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": "c1", "name": "tool", "arguments": arguments, **fields}


DELTA = ev("output_text.delta", content_index=0, delta="Hello")
WHOLE_TEXTS: dict[str, list[dict[str, Any]]] = {
    "deltas": [DELTA],
    "deltas and everything else": [
        ev("output_item.added", item=message()),
        ev("content_part.added", content_index=0, part={"type": "output_text", "text": ""}),
        DELTA,
        ev("output_text.done", content_index=0, text="Hello"),
        ev("content_part.done", content_index=0, part={"type": "output_text", "text": "Hello"}),
        ev("output_item.done", item=message("Hello")),
    ],
    "its first word comes with the part": [
        ev("content_part.added", content_index=0, part={"type": "output_text", "text": "Hel"}),
        ev("output_text.delta", content_index=0, delta="lo"),
        ev("output_text.done", content_index=0, text="Hello"),
    ],
    "text done only": [ev("output_text.done", content_index=0, text="Hello")],
    "part done only": [ev("content_part.done", content_index=0, part={"type": "output_text", "text": "Hello"})],
    "whole item only": [ev("output_item.done", item=message("Hello"))],
    "ids instead of places": [
        ev("output_text.delta", None, item_id="m", delta="Hel"),
        ev("output_text.delta", None, item_id="m", delta="lo"),
        ev("output_item.done", None, item=message("Hello", id="m")),
    ],
    "ids that change": [
        ev("output_text.delta", item_id="m1", delta="Hel"),
        ev("output_text.delta", item_id="m2", delta="lo"),
        ev("output_item.done", item=message("Hello", id="m3")),
    ],
    "the piece has another number in the end": [
        ev("output_text.delta", content_index=1, delta="Hello"),
        ev("output_item.done", item=message("Hello")),
    ],
    "the whole answer only": [],
}


@pytest.mark.parametrize("events", WHOLE_TEXTS.values(), ids=WHOLE_TEXTS.keys())
def test_text_is_said_once(events: list[dict[str, Any]]) -> None:
    """However many times a provider says a text, in pieces, whole or both, it is said once."""
    answer = decode(ev("created", None), *events, ended(output=[message("Hello")]))
    assert (answer.parts, answer.finish, answer.usage) == ([("text", "Hello")], "stop", Usage(3, 5))


def test_items_are_parts() -> None:
    """Two messages of one answer are two texts; what comes late for the first is still the first's."""
    answer = decode(
        ev("output_text.delta", 0, delta="Let me see"),
        ev("output_text.delta", 2, delta="Found"),
        ev("output_text.delta", 0, delta="."),
        ended(),
    )
    assert answer.parts == [("text", "Let me see."), ("text", "Found")]


THOUGHT = {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA"}
REASONED: dict[str, list[dict[str, Any]]] = {
    "summary in pieces": [
        ev("output_item.added", item=THOUGHT | {"encrypted_content": "unfinished"}),
        ev("reasoning_summary_part.added", summary_index=0, part={"type": "summary_text", "text": ""}),
        ev("reasoning_summary_text.delta", summary_index=0, delta="One"),
        ev("reasoning_summary_text.done", summary_index=0, text="One"),
        ev("reasoning_summary_part.added", summary_index=1, part={"type": "summary_text", "text": ""}),
        ev("reasoning_summary_text.delta", summary_index=1, delta="Tw"),
        ev("reasoning_summary_text.delta", summary_index=1, delta="o"),
        ev("output_item.done", item=THOUGHT),
    ],
    "summary whole": [
        ev("reasoning_summary_text.done", summary_index=0, text="One"),
        ev("reasoning_summary_part.done", summary_index=0, part={"type": "summary_text", "text": "One"}),
        ev("reasoning_summary_text.done", summary_index=1, text="Two"),
        ev("output_item.done", item=THOUGHT),
    ],
    "item whole": [
        ev(
            "output_item.done",
            item=THOUGHT
            | {"summary": [{"type": "summary_text", "text": "One"}, {"type": "summary_text", "text": "Two"}]},
        )
    ],
    "the thought itself": [
        ev("reasoning_text.delta", content_index=0, delta="One\n\nTwo"),
        ev("reasoning_summary_text.delta", summary_index=0, delta="It thought"),
        ev(
            "output_item.done",
            item=THOUGHT | {"summary": [{"text": "It thought"}], "content": [{"text": "One\n\nTwo"}]},
        ),
    ],
    "by its old name": [
        ev("reasoning.delta", delta="One\n\nTwo"),
        ev("reasoning.done", text="One\n\nTwo"),
        ev("output_item.done", item=THOUGHT),
    ],
}


@pytest.mark.parametrize("events", REASONED.values(), ids=REASONED.keys())
def test_reasoning_is_one_signed_part(events: list[dict[str, Any]]) -> None:
    """A reasoning item is one part, its summaries apart; the finished item's id and content are its signature."""
    answer = decode(*events, ev("output_text.delta", 1, delta="Hello"), ended())
    assert answer.parts == [("reasoning", "One\n\nTwo"), ("text", "Hello")]
    assert answer.signatures == {0: "rs_1:gAAA"}
    assert not answer.started[0].redacted


def test_hidden_reasoning() -> None:
    """Reasoning of which only the encrypted content comes is a redacted part: it must go back."""
    answer = decode(ev("output_item.done", item=THOUGHT), DELTA | {"output_index": 1}, ended())
    assert answer.parts == [("reasoning", ""), ("text", "Hello")]
    assert answer.started[0].redacted


CALLS: dict[str, list[dict[str, Any]]] = {
    "pieces": [
        ev("output_item.added", item=called("")),
        ev("function_call_arguments.delta", delta='{"a"'),
        ev("function_call_arguments.delta", delta=":1}"),
        ev("function_call_arguments.done", arguments='{"a":1}'),
        ev("output_item.done", item=called()),
    ],
    "arguments done only": [
        ev("output_item.added", item=called("")),
        ev("function_call_arguments.done", arguments='{"a":1}'),
        ev("output_item.done", item=called()),
    ],
    "whole from the start": [ev("output_item.added", item=called()), ev("output_item.done", item=called())],
    "whole at the end": [ev("output_item.done", item=called())],
    "an object": [ev("output_item.done", item=called({"a": 1}))],
}


@pytest.mark.parametrize("events", CALLS.values(), ids=CALLS.keys())
def test_call(events: list[dict[str, Any]]) -> None:
    """A call comes once, with its arguments, however they come."""
    answer = decode(*events, ended())
    assert [(part.call, part.name) for part in answer.started] == [("c1", "tool")]
    assert (json.loads(answer.text("tool_call")), answer.finish) == ({"a": 1}, "tool_calls")


def test_calls_at_one_place() -> None:
    """A host that gives every call the same place calls them all the same; one without arguments has none."""
    first, second = called(), called("", call_id="c2", name="other")
    answer = decode(*(ev("output_item.done", item=item) for item in (first, second)), ended())
    assert answer.parts == [("tool_call", '{"a":1}'), ("tool_call", "{}")]
    assert [part.call for part in answer.started] == ["c1", "c2"]


def test_custom_tool() -> None:
    """A custom tool's input is any text; as a call's arguments it is JSON."""
    item = {"type": "custom_tool_call", "call_id": "c", "name": "shell", "input": "ls -l"}
    answer = decode(
        ev("output_item.added", item=item | {"input": ""}),
        ev("custom_tool_call_input.delta", delta="ls -l"),
        ev("output_item.done", item=item),
        ended(),
    )
    assert answer.parts == [("tool_call", '{"input": "ls -l"}')]


def test_hosted_tools() -> None:
    """What the provider does by itself leaves no part, whatever its events look like; its citations do."""
    cited = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0}
    filed = {"type": "file_citation", "filename": "b.pdf", "file_id": "f", "index": 1}
    hosted: list[dict[str, Any]] = [
        ev("output_item.added", 0, item={"type": "web_search_call", "action": {"query": "x"}, "status": "searching"}),
        ev("web_search_call.searching", 0, item_id="ws"),
        ev("output_item.done", 0, item={"type": "web_search_call", "action": {"sources": [{"url": "u"}]}}),
        ev("output_item.done", 1, item={"type": "file_search_call", "queries": ["q"], "results": [{"text": ["t"]}]}),
        ev("code_interpreter_call_code.delta", 2, delta="print(1)"),
        ev("output_item.done", 2, item={"type": "code_interpreter_call", "code": "print(1)", "outputs": None}),
        ev("mcp_list_tools.completed", 3),
        ev("mcp_call_arguments.delta", 4, delta={"an": "object"}),
        ev("output_item.done", 4, item={"type": "mcp_call", "name": "m", "arguments": "{}", "output": "o"}),
        ev("image_generation_call.partial_image", 5, partial_image_b64="aGk="),
        ev("output_item.done", 5, item={"type": "image_generation_call", "result": "aGk="}),
        ev("output_item.done", 6, item={"type": "local_shell_call", "action": {"command": ["ls"]}}),
        ev("audio.delta", 7, delta="aGk="),
        {"type": "keepalive", "sequence_number": 9},
        {"type": "response.reasoning.search_queries", "queries": ["q"]},
    ]
    answer = decode(
        *hosted,
        ev("output_text.delta", 8, delta="See"),
        ev("output_text.annotation.added", 8, content_index=0, annotation=cited),
        ev("output_text.delta", 8, delta=" both."),
        ev(
            "output_item.done",
            8,
            item={
                "type": "message",
                "content": [{"type": "output_text", "text": "See both.", "annotations": [cited, filed]}],
            },
        ),
        ended(),
    )
    assert (answer.parts, answer.finish) == ([("text", "See both."), ("citation", ""), ("citation", "")], "stop")
    assert [(part.url, part.title) for part in answer.started[1:]] == [("https://a.example", "A"), (None, "b.pdf")]


def test_fields_of_another_type() -> None:
    """A field that is of another type than ours spoils neither its event nor the stream."""
    answer = decode(
        ev("web_search_call.completed", delta=[1], text={"no": 1}, item=["x"], part="y", arguments=5),
        ev("output_text.delta", content_index="0", delta="Hello", logprobs=None, item={"type": 5}),
        ended(usage="none", incomplete_details="no"),
    )
    assert (answer.parts, answer.finish, answer.usage) == ([("text", "Hello")], "stop", None)


@pytest.mark.parametrize(
    "events",
    [
        [ev("refusal.delta", delta="I can't"), ev("refusal.done", refusal="I can't")],
        [ev("refusal.done", refusal="I can't")],
        [ev("content_part.done", part={"type": "refusal", "refusal": "I can't"})],
        [ev("output_item.done", item={"type": "message", "content": [{"type": "refusal", "refusal": "I can't"}]})],
    ],
)
def test_refusal(events: list[dict[str, Any]]) -> None:
    """A refusal is a part of its own kind, and the reason for the end."""
    answer = decode(*events, ended())
    assert (answer.parts, answer.finish) == ([("refusal", "I can't")], "refusal")


@pytest.mark.parametrize(
    ("ending", "finish"),
    [
        (ended(), "stop"),
        (ended("done"), "stop"),
        (ended("incomplete", incomplete_details={"reason": "max_output_tokens"}), "length"),
        (ended("incomplete", incomplete_details={"reason": "content_filter"}), "content_filter"),
        (ended("completed", status="incomplete", incomplete_details=None), "length"),
    ],
)
def test_finish(ending: dict[str, Any], finish: str) -> None:
    """What the response's status says is how the answer ended."""
    answer = decode(DELTA, ending)
    assert (answer.finish, answer.usage) == (finish, Usage(3, 5))


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ({"type": "error", "error": {"code": "rate_limit_exceeded", "message": "m"}}, "upstream_rate_limited"),
        ({"type": "error", "code": "server_error", "message": "m", "param": None}, "upstream_error"),
        (ended("failed", error={"code": "rate_limit_exceeded", "message": "m"}), "upstream_rate_limited"),
        (ended("completed", status="failed", error={"code": "server_error"}), "upstream_error"),
        ({"error": {"code": "rate_limit_exceeded", "message": "m"}}, "upstream_rate_limited"),
        (ended("cancelled"), "upstream_incomplete"),
        (b"[DONE]", "upstream_incomplete"),
        ({"type": "response.in_progress"}, "upstream_incomplete"),
    ],
)
def test_failure(ending: dict[str, Any] | bytes, code: str) -> None:
    """What fails in the middle is one of our errors, and what was said before is kept."""
    answer = decode(DELTA, ending)
    assert (answer.parts, answer.finish, answer.code) == ([("text", "Hello")], None, code)


def test_some_end_without_an_end() -> None:
    """With the quirk, the end of the stream is the end of the answer."""
    assert decode(DELTA, ends_without_finish=True).finish == "stop"
    assert decode(ends_without_finish=True).code == "upstream_incomplete"


def test_usage() -> None:
    """Cached and reasoning tokens are told apart; some count the reasoning beside the output."""
    usage = {
        "input_tokens": 10,
        "output_tokens": 5,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens_details": {"reasoning_tokens": 3},
    }
    assert decode(DELTA, ended(usage=usage)).usage == Usage(10, 5, 3, 4, 2)
    assert decode(DELTA, ended(usage=usage), usage_excludes_reasoning=True).usage == Usage(10, 8, 3, 4, 2)


def test_progress() -> None:
    """That a response is queued or in progress is no progress: only what belongs to the answer is."""
    decoder = ResponsesDecoder(Quirks(), FAILURES)
    redact = [
        decoder.decode_event(None, json.dumps(ev(kind, None)).encode()) for kind in ("queued", "created", "in_progress")
    ]
    assert redact == [False, False, False]
    assert decoder.decode_event(None, json.dumps(DELTA).encode())
    assert decoder.decode_event("response.output_text.delta", b'{"delta": "!"}'), "the name may stand outside"


def test_merged_frames() -> None:
    """Events that a proxy glued together are all taken."""
    glued = json.dumps(DELTA).encode() + b"\n" + json.dumps(ended()).encode()
    assert decode(glued).text() == "Hello"


@pytest.mark.parametrize("data", [b'{"type": ', b"[{}]", b""])
def test_unreadable(data: bytes) -> None:
    """An event that can't be read is said to be that."""
    with pytest.raises(InvalidEvent):
        ResponsesDecoder(Quirks(), FAILURES).decode_event(None, data)


@pytest.mark.parametrize("framed", [True, False])
def test_a_whole_response(framed: bool) -> None:
    """A host that doesn't stream has answered too, and one that leaves the frames out; another document is no answer."""
    body: dict[str, Any] = {"object": "response", "status": "completed", "output": [message("Hello")], "usage": USAGE}
    decoder, answer = ResponsesDecoder(Quirks(), FAILURES), Answer()
    assert not decoder.decode_document({"type": "error", "message": "x"})
    assert decoder.decode_document({"type": "response.completed", "response": body} if framed else body)
    decoder.end()
    answer.add(decoder.parts.drain())
    assert (answer.parts, answer.finish, answer.usage) == ([("text", "Hello")], "stop", Usage(3, 5))
