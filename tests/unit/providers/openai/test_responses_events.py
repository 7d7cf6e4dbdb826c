"""Events of the Responses API are decoded to deltas, without a network, in the formats of several providers."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.base import Usage
from providers.endpoint import Endpoint
from providers.errors.failures import Failures
from providers.http.sse import InvalidEvent
from providers.media import NOTES
from providers.openai.responses_events import ResponsesDecoder
from providers.quirks import Quirks
from tests.answers import Answer, decode_named, unnamed
from tests.examples import examples

FAILURES = Failures(Endpoint("openai", "OpenAI", "", ("OPENAI_API_KEY",)))
USAGE = {"input_tokens": 3, "output_tokens": 5}


def decode(*events: dict[str, Any] | bytes, **quirks: Any) -> Answer:
    """Return the answer that these events decode to."""
    return decode_named(ResponsesDecoder(Quirks(**quirks), FAILURES), unnamed(events))


def make_event(kind: str, at: int | None = 0, **fields: Any) -> dict[str, Any]:
    index = {} if at is None else {"output_index": at}
    return {"type": f"response.{kind}", **index, **fields}


def ended(kind: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "response": {"status": kind, "usage": USAGE, **fields}}


def message(*texts: str, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text} for text in texts], **fields}


def called(arguments: Any = '{"a":1}', **fields: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": "c1", "name": "tool", "arguments": arguments, **fields}


DELTA = make_event("output_text.delta", content_index=0, delta="Hello")
WHOLE_TEXTS: dict[str, list[dict[str, Any]]] = {
    "deltas": [DELTA],
    "deltas and everything else": [
        make_event("output_item.added", item=message()),
        make_event("content_part.added", content_index=0, part={"type": "output_text", "text": ""}),
        DELTA,
        make_event("output_text.done", content_index=0, text="Hello"),
        make_event("content_part.done", content_index=0, part={"type": "output_text", "text": "Hello"}),
        make_event("output_item.done", item=message("Hello")),
    ],
    "text at the start of the part": [
        make_event("content_part.added", content_index=0, part={"type": "output_text", "text": "Hel"}),
        make_event("output_text.delta", content_index=0, delta="lo"),
        make_event("output_text.done", content_index=0, text="Hello"),
    ],
    "only text done": [make_event("output_text.done", content_index=0, text="Hello")],
    "only part done": [make_event("content_part.done", content_index=0, part={"type": "output_text", "text": "Hello"})],
    "only the whole item": [make_event("output_item.done", item=message("Hello"))],
    "ids instead of indexes": [
        make_event("output_text.delta", None, item_id="m", delta="Hel"),
        make_event("output_text.delta", None, item_id="m", delta="lo"),
        make_event("output_item.done", None, item=message("Hello", id="m")),
    ],
    "changing ids": [
        make_event("output_text.delta", item_id="m1", delta="Hel"),
        make_event("output_text.delta", item_id="m2", delta="lo"),
        make_event("output_item.done", item=message("Hello", id="m3")),
    ],
    "another content index at the end": [
        make_event("output_text.delta", content_index=1, delta="Hello"),
        make_event("output_item.done", item=message("Hello")),
    ],
    "only the whole response": [],
}


@pytest.mark.parametrize("events", WHOLE_TEXTS.values(), ids=WHOLE_TEXTS.keys())
def test_text_is_decoded_once(events: list[dict[str, Any]]) -> None:
    """A text that a provider sends several times, in pieces, whole or both, is decoded once."""
    answer = decode(make_event("created", None), *events, ended(output=[message("Hello")]))
    assert (answer.parts, answer.finish, answer.usage) == ([("text", "Hello")], "stop", Usage(3, 5))


def test_each_message_is_a_part() -> None:
    """Two messages of one response are two text parts, and late text for the first one is appended to it."""
    answer = decode(
        make_event("output_text.delta", 0, delta="Let me see"),
        make_event("output_text.delta", 2, delta="Found"),
        make_event("output_text.delta", 0, delta="."),
        ended(),
    )
    assert answer.parts == [("text", "Let me see."), ("text", "Found")]


REASONING_ITEM = {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA"}
REASONED: dict[str, list[dict[str, Any]]] = {
    "summary in pieces": [
        make_event("output_item.added", item=REASONING_ITEM | {"encrypted_content": "unfinished"}),
        make_event("reasoning_summary_part.added", summary_index=0, part={"type": "summary_text", "text": ""}),
        make_event("reasoning_summary_text.delta", summary_index=0, delta="One"),
        make_event("reasoning_summary_text.done", summary_index=0, text="One"),
        make_event("reasoning_summary_part.added", summary_index=1, part={"type": "summary_text", "text": ""}),
        make_event("reasoning_summary_text.delta", summary_index=1, delta="Tw"),
        make_event("reasoning_summary_text.delta", summary_index=1, delta="o"),
        make_event("output_item.done", item=REASONING_ITEM),
    ],
    "whole summary": [
        make_event("reasoning_summary_text.done", summary_index=0, text="One"),
        make_event("reasoning_summary_part.done", summary_index=0, part={"type": "summary_text", "text": "One"}),
        make_event("reasoning_summary_text.done", summary_index=1, text="Two"),
        make_event("output_item.done", item=REASONING_ITEM),
    ],
    "whole item": [
        make_event(
            "output_item.done",
            item=REASONING_ITEM
            | {"summary": [{"type": "summary_text", "text": "One"}, {"type": "summary_text", "text": "Two"}]},
        )
    ],
    "reasoning text": [
        make_event("reasoning_text.delta", content_index=0, delta="One\n\nTwo"),
        make_event("reasoning_summary_text.delta", summary_index=0, delta="It thought"),
        make_event(
            "output_item.done",
            item=REASONING_ITEM | {"summary": [{"text": "It thought"}], "content": [{"text": "One\n\nTwo"}]},
        ),
    ],
    "old event names and objects": [
        make_event("reasoning.delta", delta={"text": "One\n\n"}),
        make_event("reasoning.delta", delta={"content": [{"type": "text", "text": "Two"}]}),
        make_event("reasoning.done", text="One\n\nTwo"),
        make_event("output_item.done", item=REASONING_ITEM),
    ],
    "both kinds of deltas and of whole texts": [
        make_event("reasoning_summary_text.delta", summary_index=0, delta="One"),
        make_event("reasoning_text.delta", content_index=0, delta="I think one"),
        make_event("reasoning_text.done", content_index=0, text="I think one"),
        make_event("reasoning_summary_text.done", summary_index=0, text="One"),
        make_event("reasoning_text.done", content_index=1, text="I think two"),
        make_event("reasoning_summary_text.done", summary_index=1, text="Two"),
        make_event("content_part.done", content_index=0, part={"type": "reasoning_text", "text": "I think one"}),
        make_event("output_item.done", item=REASONING_ITEM | {"content": [{"text": "I think one"}]}),
    ],
    "a summary that is a text": [make_event("output_item.done", item=REASONING_ITEM | {"summary": "One\n\nTwo"})],
    "a summary of texts": [make_event("output_item.done", item=REASONING_ITEM | {"summary": ["One", "Two"]})],
    "content beside an empty summary": [
        make_event("output_item.done", item=REASONING_ITEM | {"summary": [], "content": [{"text": "One\n\nTwo"}]})
    ],
    "content beside a summary without text": [
        make_event(
            "output_item.done",
            item=REASONING_ITEM | {"summary": [{"type": "summary_text"}], "content": [{"text": "One\n\nTwo"}]},
        )
    ],
    "old event names": [
        make_event("reasoning.delta", delta="One\n\nTwo"),
        make_event("reasoning.done", text="One\n\nTwo"),
        make_event("output_item.done", item=REASONING_ITEM),
    ],
}


@pytest.mark.parametrize("events", REASONED.values(), ids=REASONED.keys())
def test_reasoning_is_one_signed_part(events: list[dict[str, Any]]) -> None:
    """A reasoning item is one part: its text, or else its summaries as paragraphs.

    Its signature is the finished item's id and encrypted content.
    """
    answer = decode(*events, make_event("output_text.delta", 1, delta="Hello"), ended())
    assert answer.parts == [("reasoning", "One\n\nTwo"), ("text", "Hello")]
    assert answer.signatures == {0: "rs_1:gAAA"}
    assert not answer.started[0].redacted


def test_hidden_reasoning() -> None:
    """A reasoning item with encrypted content only is a redacted part, because it must be sent back."""
    answer = decode(make_event("output_item.done", item=REASONING_ITEM), DELTA | {"output_index": 1}, ended())
    assert answer.parts == [("reasoning", ""), ("text", "Hello")]
    assert answer.started[0].redacted


CALLS: dict[str, list[dict[str, Any]]] = {
    "pieces": [
        make_event("output_item.added", item=called("")),
        make_event("function_call_arguments.delta", delta='{"a"'),
        make_event("function_call_arguments.delta", delta=":1}"),
        make_event("function_call_arguments.done", arguments='{"a":1}'),
        make_event("output_item.done", item=called()),
    ],
    "only arguments done": [
        make_event("output_item.added", item=called("")),
        make_event("function_call_arguments.done", arguments='{"a":1}'),
        make_event("output_item.done", item=called()),
    ],
    "whole from the start": [
        make_event("output_item.added", item=called()),
        make_event("output_item.done", item=called()),
    ],
    "whole at the end": [make_event("output_item.done", item=called())],
    "arguments as an object": [make_event("output_item.done", item=called({"a": 1}))],
}


@pytest.mark.parametrize("events", CALLS.values(), ids=CALLS.keys())
def test_call(events: list[dict[str, Any]]) -> None:
    """A call is decoded once with its arguments, in all formats."""
    answer = decode(*events, ended())
    assert [(part.call, part.name) for part in answer.started] == [("c1", "tool")]
    assert (json.loads(answer.text("tool_call")), answer.finish) == ({"a": 1}, "tool_calls")


def test_calls_with_the_same_index() -> None:
    """Two calls with the same output index are two calls. A call without arguments has an empty object."""
    first, second = called(), called("", call_id="c2", name="other")
    answer = decode(*(make_event("output_item.done", item=item) for item in (first, second)), ended())
    assert answer.parts == [("tool_call", '{"a":1}'), ("tool_call", "{}")]
    assert [part.call for part in answer.started] == ["c1", "c2"]


def test_custom_tool() -> None:
    """The input of a custom tool is any text, and is wrapped in JSON as the call's arguments."""
    item = {"type": "custom_tool_call", "call_id": "c", "name": "shell", "input": "ls -l"}
    answer = decode(
        make_event("output_item.added", item=item | {"input": ""}),
        make_event("custom_tool_call_input.delta", delta="ls -l"),
        make_event("output_item.done", item=item),
        ended(),
    )
    assert answer.parts == [("tool_call", '{"input": "ls -l"}')]


def test_hosted_tools() -> None:
    """Events of hosted tools make no parts, whatever they contain, but an image and the citations of the text do. Sound
    without a transcript is named."""
    cited = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0}
    filed = {"type": "file_citation", "filename": "b.pdf", "file_id": "f", "index": 1}
    hosted: list[dict[str, Any]] = [
        make_event(
            "output_item.added", 0, item={"type": "web_search_call", "action": {"query": "x"}, "status": "searching"}
        ),
        make_event("web_search_call.searching", 0, item_id="ws"),
        make_event("output_item.done", 0, item={"type": "web_search_call", "action": {"sources": [{"url": "u"}]}}),
        make_event(
            "output_item.done", 1, item={"type": "file_search_call", "queries": ["q"], "results": [{"text": ["t"]}]}
        ),
        make_event("code_interpreter_call_code.delta", 2, delta="print(1)"),
        make_event("output_item.done", 2, item={"type": "code_interpreter_call", "code": "print(1)", "outputs": None}),
        make_event("mcp_list_tools.completed", 3),
        make_event("mcp_call_arguments.delta", 4, delta={"an": "object"}),
        make_event("output_item.done", 4, item={"type": "mcp_call", "name": "m", "arguments": "{}", "output": "o"}),
        make_event("image_generation_call.partial_image", 5, partial_image_b64="aGk="),
        make_event("output_item.done", 5, item={"type": "image_generation_call", "result": "aGk="}),
        make_event("output_item.done", 6, item={"type": "local_shell_call", "action": {"command": ["ls"]}}),
        make_event("audio.delta", 7, delta="aGk="),
        {"type": "keepalive", "sequence_number": 9},
        {"type": "response.reasoning.search_queries", "queries": ["q"]},
    ]
    answer = decode(
        *hosted,
        make_event("output_text.delta", 8, delta="See"),
        make_event("output_text.annotation.added", 8, content_index=0, annotation=cited),
        make_event("output_text.delta", 8, delta=" both."),
        make_event(
            "output_item.done",
            8,
            item={
                "type": "message",
                "content": [{"type": "output_text", "text": "See both.", "annotations": [cited, filed]}],
            },
        ),
        ended(),
    )
    note = ("text", f"\n\n{NOTES['audio']}")
    assert answer.parts == [("image", ""), ("text", "See both."), ("citation", ""), ("citation", ""), note]
    assert answer.finish == "stop"
    assert [(part.url, part.title) for part in answer.started[2:4]] == [("https://a.example", "A"), (None, "b.pdf")]


def test_fields_of_another_type() -> None:
    """A field with a value of another type is ignored, and its event and the stream are still decoded."""
    answer = decode(
        make_event("web_search_call.completed", delta=[1], text={"no": 1}, item=["x"], part="y", arguments=5),
        make_event("output_text.delta", content_index="0", delta="Hello", logprobs=None, item={"type": 5}),
        ended(usage="none", incomplete_details="no"),
    )
    assert (answer.parts, answer.finish, answer.usage) == ([("text", "Hello")], "stop", None)


@pytest.mark.parametrize(
    "events",
    [
        [make_event("refusal.delta", delta="I can't"), make_event("refusal.done", refusal="I can't")],
        [make_event("refusal.done", refusal="I can't")],
        [make_event("content_part.done", part={"type": "refusal", "refusal": "I can't"})],
        [
            make_event(
                "output_item.done", item={"type": "message", "content": [{"type": "refusal", "refusal": "I can't"}]}
            )
        ],
    ],
)
def test_refusal(events: list[dict[str, Any]]) -> None:
    """A refusal is a part of its own, and the finish reason is `refusal`."""
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
    """The response's status determines the finish reason."""
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
    """An error, a cancellation or an early end has its error code, and the text until then is kept."""
    answer = decode(DELTA, ending)
    assert (answer.parts, answer.finish, answer.code) == ([("text", "Hello")], None, code)


def test_quirk_ends_without_finish() -> None:
    """With this quirk, the end of the stream is the end of the answer."""
    assert decode(DELTA, ends_without_finish=True).finish == "stop"
    assert decode(ends_without_finish=True).code == "upstream_incomplete"


def test_usage() -> None:
    """Cached and reasoning tokens are counted. With a quirk, reasoning tokens are added to the output."""
    usage = {
        "input_tokens": 10,
        "output_tokens": 5,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens_details": {"reasoning_tokens": 3},
    }
    assert decode(DELTA, ended(usage=usage)).usage == Usage(10, 5, 3, 4, 2)
    assert decode(DELTA, ended(usage=usage), usage_excludes_reasoning=True).usage == Usage(10, 8, 3, 4, 2)


def test_progress() -> None:
    """An event that only reports a response as queued, created or in progress doesn't count as progress; content does."""
    decoder = ResponsesDecoder(Quirks(), FAILURES)
    is_progress = [
        decoder.decode_event(None, json.dumps(make_event(kind, None)).encode())
        for kind in ("queued", "created", "in_progress")
    ]
    assert is_progress == [False, False, False]
    assert decoder.decode_event(None, json.dumps(DELTA).encode())
    assert decoder.decode_event("response.output_text.delta", b'{"delta": "!"}'), (
        "the type may be in the event name only"
    )


def test_merged_events() -> None:
    """Events that a proxy merged into one are all decoded."""
    merged_event = json.dumps(DELTA).encode() + b"\n" + json.dumps(ended()).encode()
    assert decode(merged_event).text() == "Hello"


@pytest.mark.parametrize("data", [b'{"type": ', b"[{}]", b""])
def test_invalid_events(data: bytes) -> None:
    """An event that can't be parsed raises `InvalidEvent`."""
    with pytest.raises(InvalidEvent):
        ResponsesDecoder(Quirks(), FAILURES).decode_event(None, data)


@pytest.mark.parametrize("framed", [True, False])
def test_a_whole_response(framed: bool) -> None:
    """A whole response from a host that doesn't stream is decoded, with or without its event. An error isn't."""
    body: dict[str, Any] = {"object": "response", "status": "completed", "output": [message("Hello")], "usage": USAGE}
    decoder, answer = ResponsesDecoder(Quirks(), FAILURES), Answer()
    assert not decoder.decode_document({"type": "error", "message": "x"})
    assert decoder.decode_document({"type": "response.completed", "response": body} if framed else body)
    decoder.end()
    answer.add(decoder.parts.drain())
    assert (answer.parts, answer.finish, answer.usage) == ([("text", "Hello")], "stop", Usage(3, 5))


@settings(deadline=None, max_examples=examples(100))
@given(st.lists(st.integers(0, 40), max_size=6), st.booleans(), st.booleans())
def test_reasoning_between_tags_in_the_text(cuts: list[int], is_whole: bool, is_opened: bool) -> None:
    """A host's tags at the start of the first text are split off, wherever the text is cut; the whole text adds nothing."""
    text = ("" if is_opened else "<think>") + "I think so.</think>\n\nHello <think> there"
    places = sorted({min(cut, len(text)) for cut in (0, *cuts, len(text))})
    pieces = [text[begin:end] for begin, end in zip(places, places[1:], strict=False)]
    deltas = [make_event("output_text.delta", content_index=0, delta=piece) for piece in pieces]
    done = make_event("output_item.done", item=message(text))
    answer = decode(*([] if is_whole else deltas), done, ended(), think_tags=True, think_opened=is_opened)
    assert (answer.error, answer.parts) == (None, [("reasoning", "I think so."), ("text", "Hello <think> there")])
    plain = decode(*deltas, done, ended())
    assert plain.parts == [("text", text)]
