"""Events of the Messages API are decoded to deltas, without a network."""

from typing import Any

import pytest

from providers.anthropic.events import MessagesDecoder
from providers.base import Finished, PartStarted, Usage
from providers.endpoint import Endpoint
from providers.errors.failures import Failures
from providers.http.sse import InvalidEvent, SseParser
from tests.answers import STREAMS, Answer, decode_named, unnamed

FAILURES = Failures(Endpoint("anthropic", "Anthropic", "", ("ANTHROPIC_API_KEY",)))
STOP: list[dict[str, Any]] = [
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]


def decode(*events: dict[str, Any] | bytes) -> Answer:
    """Return the answer that these events decode to."""
    return decode_named(MessagesDecoder(FAILURES), unnamed(events), drains=False)


def block(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}}


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def stopping(reason: str | None, **more: Any) -> list[dict[str, Any]]:
    return [{"type": "message_delta", "delta": {"stop_reason": reason, **more}}, {"type": "message_stop"}]


def stream(file: str) -> Answer:
    """Return the answer that one of the repository's own streams decodes to."""
    events = SseParser().feed((STREAMS / f"{file}.sse").read_bytes())
    return decode_named(MessagesDecoder(FAILURES), events, drains=False)


def test_thinking_and_tools() -> None:
    """Thinking, redacted thinking, text and tool calls are parts in order, with their signatures."""
    answer = stream("messages_thinking_tools")
    assert answer.parts == [
        ("reasoning", "They want the weather."),
        ("reasoning", ""),
        ("text", "Let me look."),
        ("tool_call", '{"city": "Bern"}'),
        ("tool_call", "{}"),
    ]
    assert answer.signatures == {0: "c2lnbmF0dXJl", 1: "b3BhcXVl"}
    assert answer.started[1].redacted
    assert [(part.call, part.name) for part in answer.started[3:]] == [
        ("toolu_1", "weather"),
        ("toolu_2", "now"),
    ]
    assert answer.finish == "tool_calls"
    assert answer.usage == Usage(115, 60, reasoning_tokens=20, cache_read_tokens=100, cache_write_tokens=5), (
        "input includes cached tokens"
    )


def test_citations() -> None:
    """A citation is a part of its own, and the text after it continues the text part. Server tools make no parts."""
    answer = stream("messages_citations")
    assert answer.parts == [("text", "Water is wet, it seems."), ("citation", ""), ("citation", "")]
    assert answer.started[1:] == [
        PartStarted(1, "citation", url="https://example.com/water", title="On water", text="wet"),
        PartStarted(2, "citation", title="Notes", text="seems"),
    ]
    assert (answer.finish, answer.usage) == ("stop", Usage(4, 12))


def test_overloaded() -> None:
    """An error in the middle of a stream keeps its own code, and the text and usage until then are kept."""
    answer = stream("messages_overloaded")
    assert (answer.code, answer.text(), answer.usage) == (
        "upstream_overloaded",
        "I was about to",
        Usage(4, 1),
    )
    assert answer.error is not None
    assert answer.error.retryable


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "refusal"),
        ("compaction", "length"),
    ],
)
def test_stop_reasons(reason: str, expected: str) -> None:
    """Every stop reason is mapped to a finish reason."""
    assert decode(block(0, "text", text="a"), *stopping(reason)).finish == expected


@pytest.mark.parametrize(("reason", "sequence"), [("stop_sequence", "END"), ("max_tokens", None)])
def test_the_stop_sequence_is_reported(reason: str, sequence: str | None) -> None:
    decoder = MessagesDecoder(FAILURES)
    document = {"type": "message", "content": "a", "stop_reason": reason, "stop_sequence": "END"}
    assert decoder.decode_document(document)
    decoder.end()
    (finished,) = (each for each in decoder.parts.drain() if isinstance(each, Finished))
    assert finished.stop_sequence == sequence


def test_refusal_explanation_is_a_part() -> None:
    """The explanation of a refusal is a refusal part."""
    answer = decode(*stopping("refusal", stop_details={"type": "refusal", "explanation": "Not this."}))
    assert (answer.parts, answer.finish) == ([("refusal", "Not this.")], "refusal")
    assert decode(*stopping("refusal", stop_details={"explanation": None})).parts == []


@pytest.mark.parametrize("events", [[], STOP[1:], stopping(None), stopping("null"), stopping("something_new")])
def test_incomplete(events: list[dict[str, Any]]) -> None:
    """A message without a known stop reason is incomplete."""
    answer = decode(delta(0, "text_delta", text="a"), *events)
    assert (answer.code, answer.text()) == ("upstream_incomplete", "a")


def test_ping_is_no_progress() -> None:
    """A ping isn't progress. The start of a message and an unknown event are."""
    decoder = MessagesDecoder(FAILURES)
    assert decoder.decode_event("ping", b'{"type": "ping"}') is False
    assert decoder.decode_event(None, b'{"type": "ping"}') is False
    assert decoder.decode_event(None, b'{"type": "brand_new_event"}') is True
    assert decoder.decode_event("message_start", b'{"type": "message_start"}') is True


def test_event_type_from_data_or_event_name() -> None:
    """An event's type is taken from the data, or from the event name if the data has none."""
    decoder = MessagesDecoder(FAILURES)
    decoder.decode_event("content_block_delta", b'{"index": 0, "delta": {"type": "text_delta", "text": "a"}}')
    decoder.decode_event(None, b'{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "b"}}')
    answer = Answer()
    answer.add(decoder.parts.drain())
    assert answer.text() == "ab"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "error": {"type": "overloaded_error"}},
        {"error": {"type": "overloaded_error"}},
        {"type": "new", "error": {"type": "overloaded_error"}},
    ],
)
def test_errors(event: dict[str, Any]) -> None:
    """An error is recognized with or without an event type."""
    assert decode(event).code == "upstream_overloaded"


def test_unknown_blocks_and_deltas_are_skipped() -> None:
    """Unknown blocks and deltas are skipped, and events without their fields are harmless."""
    answer = decode(
        block(0, "fallback", model="x"),
        delta(0, "brand_new_delta", text="b"),
        delta(5, "input_json_delta", partial_json="{}"),
        delta(5, "citations_delta"),
        {"type": "content_block_start"},
        {"type": "content_block_delta"},
        {"type": "content_block_stop", "index": 9},
        delta(1, "text_delta", text="a"),
        *STOP,
    )
    assert (answer.parts, answer.finish) == ([("text", "a")], "stop")


def test_split_surrogate_pair() -> None:
    """A surrogate pair that is split across two events is joined."""
    halves = [
        b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"%s"}}' % half
        for half in (b"\\ud83c", b"\\udf40")
    ]
    assert decode(*halves, *STOP).text() == "🍀"


@pytest.mark.parametrize("data", [b'{"type": ', b"[{}]", b""])
def test_invalid_events(data: bytes) -> None:
    """An event that can't be parsed raises `InvalidEvent`."""
    with pytest.raises(InvalidEvent):
        MessagesDecoder(FAILURES).decode_event(None, data)


def test_a_whole_message() -> None:
    """A whole message from a host that doesn't stream is decoded, other documents aren't.

    A stop reason that reports a failure is an error.
    """
    body: dict[str, Any] = {
        "type": "message",
        "content": [
            {"type": "thinking", "thinking": "why", "signature": "s"},
            {"type": "text", "text": "so"},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    decoder, answer = MessagesDecoder(FAILURES), Answer()
    assert not decoder.decode_document({"type": "error", "error": {}})
    assert decoder.decode_document(body)
    decoder.end()
    answer.add(decoder.parts.drain())
    assert answer.parts == [("reasoning", "why"), ("text", "so"), ("tool_call", '{"x": 1}')]
    assert (answer.signatures, answer.finish, answer.usage) == ({0: "s"}, "tool_calls", Usage(3, 2))
    assert decode(block(0, "text", text="a"), *stopping("network_error")).code == "upstream_error"
