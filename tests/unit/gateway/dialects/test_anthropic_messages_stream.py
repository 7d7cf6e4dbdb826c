"""Tests of the stream of Anthropic's Messages API. Each is read by the SDK's own accumulator, and by a stricter one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from gateway.dialects.anthropic_messages_object import message_answer
from gateway.dialects.anthropic_messages_stream import MessagesStream, is_complete
from gateway.protocol.errors import ApiError
from gateway.protocol.events import (
    Heartbeat,
    Message,
    ServerEvent,
    TurnCompleted,
    TurnDelta,
    TurnPart,
    TurnReset,
    TurnStatus,
)
from gateway.protocol.results import TurnView
from providers.base import Part, ReasoningPart, TextPart, ToolCallPart, Usage
from tests.dialect_events import cancelled, delta, failed, part, started
from tests.dialect_events import completed as completed_with

EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
STARTED = started(conversation=None)
USAGE = Usage(10, 4, 1, 2, 3)


def call(number: int) -> TurnPart:
    return part(number, "tool_call", call=f"c{number}", name="add")


def text(number: int, text: str) -> TurnDelta:
    return delta(number, text)


def signature(number: int, signature: str) -> TurnDelta:
    return delta(number, signature=signature)


def completed(reason: Any = "stop", usage: Usage | None = USAGE) -> TurnCompleted:
    return completed_with(reason, usage)


def frames(*events: ServerEvent, stream: MessagesStream | None = None) -> list[dict[str, Any]]:
    """Return the events of the stream for `STARTED` and these events. Check that each has the name of its type."""
    stream = stream or MessagesStream()
    sent = b"".join(map(stream.encode, (STARTED, *events))).decode()
    found = []
    for frame in sent.split("\n\n")[:-1]:
        name, data = frame.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def message(*events: ServerEvent, stream: MessagesStream | None = None) -> Any:
    """Return the message that the SDK makes of a stream, after a check of the order of its events."""
    snapshot = None
    stopped: set[int] = set()
    begun = 0
    found = frames(*events, stream=stream)
    for event in found:
        if event["type"] in {"ping", "error"}:
            continue
        parsed = EVENTS.validate_python(event, strict=True)
        if event["type"] == "content_block_start":
            assert event["index"] == begun
            begun += 1
        elif event["type"].startswith("content_block"):
            assert event["index"] < begun
            assert event["index"] not in stopped
            if event["type"] == "content_block_stop":
                stopped.add(event["index"])
        elif event["type"] == "message_delta":
            assert stopped == set(range(begun))
        snapshot = accumulate_event(event=parsed, current_snapshot=snapshot, json_bufs=BUFFERS[-1])
    assert found[-1]["type"] in {"message_stop", "error"}
    BUFFERS.append({})
    return snapshot


BUFFERS: list[dict[int, bytes]] = [{}]


def blocks(*events: ServerEvent) -> list[dict[str, Any]]:
    found = message(*events).to_dict()["content"]
    return [{name: value for name, value in block.items() if value is not None} for block in found]


def test_a_stream_of_thinking_text_and_calls() -> None:
    """The pieces of a signature are one event, because the SDK keeps only the last. A part without content has no block."""
    events = (
        part(0, "reasoning"),
        text(0, "Hm"),
        signature(0, "si"),
        signature(0, "gn"),
        part(1, "reasoning", redacted=True),
        signature(1, "opa"),
        signature(1, "que"),
        part(2),
        part(3),
        text(3, 'é"\n'),
        Heartbeat(1),
        text(3, "!"),
        call(4),
        text(4, '{"a":'),
        text(4, "1}"),
        call(5),
        completed("tool_calls"),
    )
    found = message(*events)
    assert json.dumps(frames(*events)).count("signature_delta") == 1
    assert [block.to_dict() for block in found.content] == [
        {"type": "thinking", "thinking": "Hm", "signature": "sign"},
        {"type": "redacted_thinking", "data": "opaque"},
        {"type": "text", "text": 'é"\n!'},
        {"type": "tool_use", "id": "c4", "name": "add", "input": {"a": 1}},
        {"type": "tool_use", "id": "c5", "name": "add", "input": {}},
    ]
    assert (found.id, found.model, found.stop_reason) == ("t", "m", "tool_use")
    usage = found.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (5, 2, 3)
    assert (usage.output_tokens, usage.output_tokens_details.thinking_tokens) == (4, 1)
    parts: list[Part] = [
        ReasoningPart("Hm", signature="sign"),
        ReasoningPart("", redacted=True, signature="opaque"),
        TextPart('é"\n!'),
        ToolCallPart("c4", "add", '{"a":1}'),
        ToolCallPart("c5", "add", ""),
    ]
    whole = Message(id="a", role="assistant", parts=parts, parent=None, created_at="2026-01-31T00:00:00.000Z")
    view = TurnView("t", None, "completed", 1, 9, "m", whole, finish_reason="tool_calls", usage=USAGE)
    assert json.loads(message_answer(view).body) == found.to_dict()


def test_blocks_follow_one_another_but_for_calls_side_by_side() -> None:
    names = [event["type"] for event in frames(call(0), text(0, "{}"), call(1), text(1, "{}"), completed())]
    one = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert names == ["message_start", *one, *one, "message_delta", "message_stop"]
    beside = blocks(call(0), text(0, '{"a":'), call(1), text(1, '{"b":2}'), text(0, "1}"), completed("tool_calls"))
    assert [block["input"] for block in beside] == [{"a": 1}, {"b": 2}]
    three = (call(0), text(0, '{"a":'), call(1), text(0, "1}"), text(1, '{"b":2}'), call(2), text(2, "{}"))
    assert [block["input"] for block in blocks(*three, completed("tool_calls"))] == [{"a": 1}, {"b": 2}, {}]


def test_text_that_arrives_after_its_block() -> None:
    """It is in a block of its own; nothing is lost."""
    found = blocks(part(0), text(0, "A"), call(1), text(1, "{}"), text(0, "B"), text(1, "\n"), completed())
    assert [block.get("text") for block in found] == ["A", None, "B"]


def test_a_signature_without_text() -> None:
    """A provider that hides thoughts still signs them."""
    found = blocks(part(0, "reasoning"), signature(0, "s"), part(1), text(1, "Hi"), completed())
    assert found == [{"type": "thinking", "thinking": "", "signature": "s"}, {"type": "text", "text": "Hi"}]
    assert blocks(part(0), text(0, "Hi"), signature(0, "s"), completed()) == [{"type": "text", "text": "Hi"}]
    late = frames(part(0, "reasoning"), text(0, "Hm"), part(1), text(1, "Hi"), signature(0, "s"), completed())
    assert [event["delta"] for event in late if event.get("index") == 0 and "delta" in event] == [
        {"type": "thinking_delta", "thinking": "Hm"},
        {"type": "signature_delta", "signature": "s"},
    ]


def test_citations_images_and_refusals() -> None:
    cited = {"type": "web_search_result_location", "url": "u", "cited_text": "", "encrypted_index": "", "title": None}
    found = message(
        part(0, "citation", url="u"),
        part(1, "citation"),
        part(2),
        text(2, "A"),
        part(3, "citation", url="u"),
        text(2, "B"),
        part(4, "refusal"),
        text(4, "No."),
        completed("refusal"),
    )
    assert found.content[0].text == "AB"
    assert [citation.to_dict() for citation in found.content[0].citations] == [cited, cited]
    assert (found.content[1].text, found.stop_reason, found.stop_details.type) == ("No.", "refusal", "refusal")
    image = frames(part(0, "image", url="/v1/x"), text(0, "?"), completed())
    assert image[1]["content_block"] == {"type": "image", "source": {"type": "url", "url": "/v1/x"}}
    assert [event["type"] for event in image].count("content_block_start") == 1


def test_the_first_call_alone() -> None:
    found = message(
        call(0), text(0, "{}"), call(1), text(1, "{}"), completed("tool_calls"), stream=MessagesStream(one_call=True)
    )
    assert [block.id for block in found.content] == ["c0"]


def test_a_ping_begins_the_message() -> None:
    """Until then it is held back, so that a failure is the response's status."""
    stream = MessagesStream()
    assert stream.encode(STARTED) == b""
    fallback = TurnStatus(turn="t", seq=2, status="fallback", model="other")
    assert stream.encode(fallback) == b""
    sent = stream.encode(Heartbeat(1)).decode()
    assert [line for line in sent.splitlines() if line.startswith("event")] == ["event: message_start", "event: ping"]
    assert '"model":"other"' in sent
    assert MessagesStream().encode(Heartbeat(1)) == b""


@pytest.mark.parametrize(
    ("by", "reason"), [("client", "end_turn"), ("limit", "max_tokens"), ("disconnect", "max_tokens")]
)
def test_a_cancelled_stream_ends_normally(by: Any, reason: str) -> None:
    ending = cancelled(by)
    found = message(part(0), text(0, "Hel"), ending)
    assert (found.content[0].text, found.stop_reason, found.usage.output_tokens) == ("Hel", reason, 0)
    assert message(ending).content == []


def test_a_failed_stream_ends_with_an_error() -> None:
    error = ApiError("upstream_overloaded").body
    ending = failed(error)
    *_, last = frames(part(0), text(0, "Hel"), ending)
    assert last == {"type": "error", "error": {"type": "overloaded_error", "message": error.message}}
    stream = MessagesStream()
    stream.encode(STARTED)
    stream.encode(ending)
    assert stream.failure == error


RESET = TurnReset("t", 5, 2, "lost")


def test_an_answer_that_begins_again() -> None:
    """What the client has is left out; a different beginning ends the stream with an error (law 7)."""
    first = (part(0, "reasoning"), text(0, "Hm"), signature(0, "s"), part(1), text(1, "Hel"))
    again = (part(0, "reasoning"), text(0, "Hm"), signature(0, "s"), part(1), text(1, "Hello"), completed())
    found = message(*first, RESET, STARTED, *again)
    assert [block.to_dict() for block in found.content] == [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "text", "text": "Hello"},
    ]
    for other in ((part(0), text(0, "Hello")), (part(0, "reasoning"), text(0, "Oh")), (call(0),)):
        *_, last = frames(*first, RESET, *other)
        assert last["type"] == "error"
    called = (call(0), text(0, '{"a":1}'), part(1), text(1, "x"))
    *_, last = frames(*called, RESET, call(0), text(0, '{"a":1}'), part(1), text(1, "x"), text(0, "2"))
    assert last["type"] == "error"


def test_the_arguments_of_a_call_are_complete_once() -> None:
    assert is_complete(['{"a":', "{}}", "\n"])
    for pieces in ([], ["{}"] * 2, ['{"a":"}'], ["[1]"], ["{}" + " " * 300_000], ["[" * 2000 + "}"]):
        assert not is_complete(pieces)


def test_a_stop_sequence() -> None:
    ending = completed_with("stop", USAGE, stop_sequence="END")
    found = message(part(0), text(0, "Hi"), ending)
    assert (found.stop_reason, found.stop_sequence) == ("stop_sequence", "END")


def test_no_usage_is_none() -> None:
    found = message(completed(usage=None))
    assert (found.usage.input_tokens, found.usage.output_tokens, found.content) == (0, 0, [])
