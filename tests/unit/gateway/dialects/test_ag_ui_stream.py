"""Tests of the stream of AG-UI: what a client that follows the protocol's rules ends with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.ag_ui_messages import AgMessage
from gateway.dialects.ag_ui_stream import RunStream
from gateway.protocol.errors import ApiError
from gateway.protocol.events import (
    Heartbeat,
    Message,
    ServerEvent,
    TurnReset,
    TurnStatus,
)
from gateway.protocol.results import TurnView
from providers.base import ImagePart, Part, PartKind, ReasoningPart, TextPart, ToolCallPart, Usage
from tests import dialect_events

STARTED = dialect_events.started("r", conversation="t")
part = partial(dialect_events.part, turn="r")
delta = partial(dialect_events.delta, turn="r")
completed = partial(dialect_events.completed, turn="r")
cancelled = partial(dialect_events.cancelled, turn="r")


def events_in(data: bytes) -> list[dict[str, Any]]:
    """Return the events in the bytes of a stream, after a check of their frames."""
    found = []
    for frame in data.decode().split("\n\n"):
        *fields, last = frame.split("\n")
        assert all(field.startswith("id: ") for field in fields)
        if last and not last.startswith(":"):
            found.append(json.loads(last.removeprefix("data: ")))
    return found


def sent(*events: ServerEvent, stream: RunStream | None = None) -> list[dict[str, Any]]:
    """Return the events of a run for these events."""
    stream = stream or RunStream("t", "r")
    return events_in(b"".join(map(stream.encode, (STARTED, *events))))


class Client:
    """What a client makes of events. It fails where the package's verification does."""

    def __init__(self, events: Sequence[dict[str, Any]]) -> None:
        self.texts: dict[str, str] = {}
        self.open: set[tuple[str, str]] = set()
        self.has_ended = False
        assert events[0]["type"] in {"RUN_STARTED", "RUN_ERROR"}
        for event in events:
            assert not self.has_ended
            self._apply(event["type"], event)

    def _apply(self, kind: str, event: dict[str, Any]) -> None:
        if kind in {"RUN_FINISHED", "RUN_ERROR"}:
            assert kind == "RUN_ERROR" or not self.open
            self.has_ended = True
        group, _, step = kind.rpartition("_")
        name = (group, event.get("messageId", event.get("toolCallId", "")))
        if step == "START":
            assert name not in self.open
            self.open.add(name)
            self.texts.setdefault(name[1], "")
        elif step in {"CONTENT", "ARGS"}:
            assert name in self.open
            self.texts[name[1]] += event["delta"]
        elif step == "END":
            self.open.remove(name)


def test_an_answer_of_every_kind_of_part() -> None:
    usage = Usage(5, 7, reasoning_tokens=2, cache_read_tokens=3, cache_write_tokens=1)
    events = sent(
        part(0, "reasoning"),
        delta(0, "Hm\n"),
        part(1, "text"),
        delta(1, 'Say "hi"'),
        part(2, "citation", url="https://a.example", title="A"),
        part(3, "image", url="/v1/messages/m/parts/3", media_type="image/png"),
        part(4, "refusal"),
        delta(4, " No."),
        part(5, "reasoning", redacted=True),
        part(6, "tool_call", call="c", name="add"),
        delta(6, '{"a":\n'),
        part(7, "tool_call", call="d", name="sub"),
        delta(6, "1}"),
        completed("tool_calls", usage),
    )
    assert [event["type"] for event in events] == [
        *("RUN_STARTED", "REASONING_START", "REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT"),
        *("REASONING_MESSAGE_END", "REASONING_END", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "CUSTOM", "CUSTOM"),
        *("TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_START"),
        *("TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_END", "RUN_FINISHED"),
    ]
    assert Client(events).texts == {"a.0": "Hm\n", "a": 'Say "hi" No.', "c": '{"a":\n1}', "d": ""}
    assert events[2] == {"type": "REASONING_MESSAGE_START", "messageId": "a.0", "role": "reasoning"}
    assert events[8]["value"] == {"messageId": "a", "url": "https://a.example", "title": "A"}
    assert events[9]["value"] == {"messageId": "a", "url": "/v1/messages/m/parts/3", "mimeType": "image/png"}
    assert events[12] == {
        "type": "TOOL_CALL_START",
        "toolCallId": "c",
        "toolCallName": "add",
        "parentMessageId": "a",
    }
    assert events[-1] == {
        "type": "RUN_FINISHED",
        "threadId": "t",
        "runId": "r",
        "outcome": {"type": "success", "pendingToolCallIds": ["c", "d"]},
        "metadata": {"finishReason": "tool_calls"},
        "usage": [
            {
                "model": "m",
                "inputTokens": 5,
                "outputTokens": 7,
                "totalTokens": 12,
                "reasoningTokens": 2,
                "cachedInputTokens": 3,
                "cacheWriteInputTokens": 1,
            }
        ],
    }


def test_text_of_a_message_that_is_closed() -> None:
    """More text of an earlier part opens its message for this text alone."""
    events = sent(
        *(part(0, "reasoning"), delta(0, "a"), part(1, "text"), delta(0, "b"), delta(1, "c"), part(2, "reasoning")),
        *(delta(1, "d"), delta(2, "e"), completed()),
    )
    assert Client(events).texts == {"a.0": "ab", "a": "cd", "a.2": "e"}


def test_two_calls_with_the_same_id() -> None:
    calls = [part(n, "tool_call", call="c", name="f") for n in range(2)]
    events = sent(calls[0], delta(0, "{}"), calls[1], delta(1, "[]"), completed("tool_calls"))
    Client(events)
    assert events[-1]["outcome"]["pendingToolCallIds"] == ["c"]


def test_how_a_run_ends() -> None:
    spoken = (part(0, "text"), delta(0, "Hi"))
    stopped = sent(*spoken, part(1, "tool_call", call="c", name="f"), cancelled("admin", reason="Maintenance"))
    Client(stopped)
    assert stopped[-1]["outcome"] == {"type": "cancelled"}
    assert stopped[-1]["metadata"] == {"by": "admin", "reason": "Maintenance"}
    assert sent(cancelled("limit"))[-1]["outcome"] == {"type": "cancelled"}
    assert [event["type"] for event in sent(completed())] == ["RUN_STARTED", "RUN_FINISHED"]
    huge = sent(completed(usage=Usage(10**18, 10**18)))[-1]["usage"][0]
    assert (huge["inputTokens"], huge["totalTokens"]) == (2**53 - 1, 2**53 - 1)
    error = ApiError("upstream_error", "Broken.", retry_after_ms=5).body
    failed = dialect_events.failed(error, turn="r", usage=Usage(1, 2))
    ended = sent(*spoken, failed)[-1]
    assert (ended["message"], ended["code"], ended["metadata"]) == ("Broken.", "upstream_error", {"retryAfterMs": 5})
    assert ended["usage"][0]["outputTokens"] == 2
    early = RunStream("t", "r")
    sent(failed, stream=early)
    assert early.failure is error


def test_the_model_that_answers() -> None:
    status = TurnStatus(turn="r", seq=2, status="fallback", model="n")
    assert sent(status, completed(usage=Usage(1, 1)))[-1]["usage"][0]["model"] == "n"


def test_a_stream_that_stops_before_its_run() -> None:
    """At a drain the run goes on, so the stream only breaks off; for other reasons it ends with an error."""
    drained, revoked = RunStream("t", "r"), RunStream("t", "r")
    assert drained.stop(ApiError("shutting_down")) == b""
    assert (drained.ended, drained.is_cut) == (True, True)
    assert events_in(revoked.stop(ApiError("unauthenticated")))[0]["code"] == "unauthenticated"
    assert not revoked.is_cut
    assert revoked.encode(Heartbeat(1)) == b": heartbeat\n\n"


def test_what_the_client_is_told_before_the_answer() -> None:
    stream = RunStream("t", "r", "p")
    stream.snapshots = [[AgMessage("u", "user", "Hi"), AgMessage("x", "tool", "1", tool_call_id="c")]]
    events = sent(part(0, "text"), delta(0, "Yes"), completed(), stream=stream)
    assert events[0]["parentRunId"] == "p"
    assert events[1]["messages"] == [
        {"id": "u", "role": "user", "content": "Hi"},
        {"id": "x", "role": "tool", "content": "1", "toolCallId": "c"},
    ]


@pytest.mark.parametrize("again", [["Hello", " you"], ["He", "llo you"], ["Hello you"]])
def test_an_answer_that_begins_again(again: list[str]) -> None:
    """After a takeover, what was sent already isn't sent again."""
    reset = TurnReset(turn="r", seq=5, epoch=2, reason="takeover")
    deltas = [delta(0, text) for text in again]
    events = sent(part(0, "text"), delta(0, "Hello"), reset, part(0, "text"), *deltas, completed())
    assert Client(events).texts == {"a": "Hello you"}
    other = sent(part(0, "text"), delta(0, "Hello"), reset, part(0, "text"), delta(0, "Good day"))
    assert (other[-1]["type"], other[-1]["code"]) == ("RUN_ERROR", "upstream_incomplete")
    assert Client(other).texts == {"a": "Hello"}


KINDS: tuple[PartKind, ...] = ("text", "reasoning", "tool_call", "image")


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3)), max_size=5), st.booleans())
def test_a_stream_is_resumed_after_any_event(plan: list[tuple[PartKind, int]], is_cancelled: bool) -> None:
    """What comes before a position, and the stream from there, are the whole stream."""
    events: list[ServerEvent] = [STARTED]
    parts: list[Part] = []
    for n, (kind, count) in enumerate(plan):
        call: dict[str, Any] = {"call": f"c{n}", "name": "f"} if kind == "tool_call" else {}
        call |= {"url": "x", "media_type": "image/png"} if kind == "image" else {}
        events.append(part(n, kind, seq=len(events) + 1, **call))
        texts = [] if kind == "image" else [f"{n}.{k} " for k in range(count)]
        events += [delta(n, text, seq=len(events) + 1 + k) for k, text in enumerate(texts)]
        whole = "".join(texts)
        if kind == "tool_call":
            parts.append(ToolCallPart(f"c{n}", "f", whole))
        elif kind == "image":
            parts.append(ImagePart("image/png", url="x"))
        else:
            parts.append(ReasoningPart(whole) if kind == "reasoning" else TextPart(whole))
    events.append(cancelled() if is_cancelled else completed(seq=len(events) + 1))
    stream = RunStream("t", "r")
    frames = [stream.encode(event) for event in events]
    Client(events_in(b"".join(frames)))
    message = Message(id="a", role="assistant", parts=parts, parent=None, created_at="")
    view = TurnView("r", "t", "completed", 1, len(events), "m", message)
    for position in [n + 1 for n, frame in enumerate(frames[:-1]) if frame]:
        resumed = RunStream("t", "r")
        resumed.resume(view, 1)
        rest = b"".join(resumed.encode(event) for event in events[position:])
        assert events_in(rest) == events_in(b"".join(frames[position:]))


def test_a_run_whose_events_are_gone() -> None:
    call = ToolCallPart("c", "f", "{}")
    stored = Message(id="a", role="assistant", parts=[TextPart("Hi"), call], parent=None, created_at="", model="m")
    stream = RunStream("t", "r")
    stream.snapshots = [[AgMessage("u", "user", "Hi")]]

    def ending(**fields: Any) -> dict[str, Any]:
        values = {name: getattr(stored, name) for name in stored.__struct_fields__}
        events = events_in(stream.stored(Message(**{**values, **fields})))
        Client(events)
        return events[-1]

    assert ending(ended="completed", finish_reason="tool_calls")["outcome"] == {
        "type": "success",
        "pendingToolCallIds": ["c"],
    }
    assert ending(ended="cancelled", by="admin")["metadata"] == {"by": "admin"}
    failed = ending(ended="failed", error=ApiError("upstream_error", "Broken.").body, usage=Usage(1, 1))
    assert (failed["type"], failed["message"]) == ("RUN_ERROR", "Broken.")
    assert events_in(stream.stored(None))[-1]["outcome"] == {"type": "success"}
