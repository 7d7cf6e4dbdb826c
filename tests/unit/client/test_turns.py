"""What a turn makes of its events: its answer, its position, its ending, and the laws."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from turnwire.client import LawViolation, Position, TurnFailed, TurnwireError, UnknownEvent, to_wire
from turnwire.client.codecs import JSON, MSGPACK, whole_text
from turnwire.client.events import TurnEvent
from turnwire.client.followed import FollowedTurns
from turnwire.client.records import CancelOutcome
from turnwire.client.turn import Turn


class Owner:
    """A connection that can always be waited for."""

    def check(self) -> None:
        """Raise nothing."""

    async def cancel_turn(self, turn: Turn, reason: object) -> CancelOutcome:
        """Cancel nothing."""
        return "not_found"


def event(kind: str, /, **fields: Any) -> TurnEvent:
    """Return an event as it arrives."""
    return JSON.decode(msgspec.json.encode({"type": kind, "turn": "t", **fields}))  # type: ignore[return-value]


def delta(seq: int, text: str, part: int = 0, **more: Any) -> TurnEvent:
    """Return a delta."""
    return event("turn.delta", seq=seq, part=part, text=text, **more)


def begun(*events: TurnEvent, position: Position | None = None) -> Turn:
    """Return a turn that has received these events."""
    turn = Turn("t", None, Owner(), position)
    for received in events:
        turn._receive(received)
    return turn


STARTED = event("turn.started", seq=1, epoch=9, status="running", conversation="c", model="m", message="a", parent="q")
PART = event("turn.part", seq=2, part=0, kind="text")


async def test_the_message_of_a_completed_turn() -> None:
    """Its parts, its ids and what the ending says. Reasoning and calls aren't in its text."""
    turn = begun(
        STARTED,
        event("turn.part", seq=2, part=0, kind="reasoning"),
        delta(3, "Hm."),
        event("turn.delta", seq=4, part=0, signature="si"),
        event("turn.delta", seq=5, part=0, signature="g"),
        event("turn.part", seq=6, part=1, kind="text"),
        delta(8, "Hello", 1, after=6),
        event("turn.part", seq=9, part=2, kind="tool_call", call="c1", name="weather"),
        delta(10, '{"place":', 2),
        delta(11, '"Oslo"}', 2),
        event("turn.part", seq=14, after=11, part=3, kind="image", media_type="image/png", url="/v1/x", size=9),
        event("turn.status", seq=15, status="continued", model="m2"),
        event("turn.news", seq=17, after=15, what="unknown types advance the position too"),
        event(
            "turn.completed",
            seq=18,
            finish_reason="tool_calls",
            usage={"input_tokens": 1, "output_tokens": 2},
            message="a",
        ),
    )
    message = await turn
    assert (message.text, message.reasoning, message.status, message.id) == ("Hello", "Hm.", "completed", "a")
    assert (message.model, message.conversation, message.parent, message.finish_reason) == (
        "m2",
        "c",
        "q",
        "tool_calls",
    )
    assert [part.kind for part in message.parts] == ["reasoning", "text", "tool_call", "image"]
    assert message.parts[0].signature == "sig"
    assert message.tool_calls[0].arguments == '{"place":"Oslo"}'
    assert message.usage is not None
    assert message.usage.output_tokens == 2
    assert turn.position == Position(9, 18)
    assert (await turn.accepted()).conversation == "c"
    events = [received async for received in turn]
    assert isinstance(events[-2], UnknownEvent)
    assert to_wire(events[-2])["what"] == "unknown types advance the position too"
    assert [received async for received in turn] == []


@pytest.mark.parametrize(
    ("events", "law"),
    [
        ([STARTED, delta(3, "x")], "law 1"),
        ([STARTED, PART, delta(2, "x")], "law 1"),
        ([STARTED, PART, delta(9, "x", after=1)], "law 1"),
        ([STARTED, delta(2, "x")], "law 1"),
        ([STARTED, event("turn.completed", seq=2), PART], "law 2"),
        ([STARTED, event("turn.completed", seq=2), event("turn.cancelled", seq=3)], "law 2"),
    ],
)
def test_a_gateway_that_breaks_a_law(events: list[TurnEvent], law: str) -> None:
    """Gaps, repetitions, parts that were never opened, and what follows an ending."""
    with pytest.raises(LawViolation, match=law):
        begun(*events)


async def test_a_violation_fails_the_turn_and_nothing_else() -> None:
    """The violation is kept, and the turn's later events are ignored."""
    turns = FollowedTurns(lambda _: None)
    turn = Turn("t", None, Owner())
    turns.add(turn)
    for received in (STARTED, delta(5, "x"), delta(6, "y")):
        turns.receive(received)
    assert len(turns.violations) == 1
    assert turns.running() == []
    with pytest.raises(LawViolation) as raised:
        await turn
    assert raised.value.partial is not None
    assert raised.value.partial.conversation == "c"
    assert [received.type async for received in turn] == ["turn.started", "turn.failed"]


async def test_a_reset_begins_the_answer_again() -> None:
    """The position is that of the reset, with its epoch; parts follow from number 0."""
    turn = begun(STARTED, PART, delta(3, "lost"), event("turn.reset", seq=0, epoch=12, reason="r"))
    assert (turn.message.text, turn.position) == ("", Position(12, 0))
    for received in (STARTED, PART, event("turn.status", seq=3, status="resumed", epoch=13), delta(4, "kept")):
        turn._receive(received)
    assert (turn.message.text, turn.position, turn.status) == ("kept", Position(13, 4), "running")


async def test_a_turn_that_is_followed_from_a_position() -> None:
    """The part of its first delta isn't known, and is taken for text."""
    turn = begun(delta(8, "rest"), event("turn.cancelled", seq=9, by="limit"), position=Position(9, 7))
    message = await turn
    assert (message.text, message.status, message.by) == ("rest", "cancelled", "limit")
    assert [text async for text in turn.text()] == ["rest"]


async def test_a_failed_turn() -> None:
    """Events end with the failure, text raises it, and so does awaiting, each time, with the partial message."""
    error = {"code": "upstream_error", "message": "It failed.", "retryable": True, "retry_after_ms": 5}
    turn = begun(STARTED, PART, delta(3, "so far"), event("turn.failed", seq=4, error=error, message="a"))
    texts: list[str] = []
    with pytest.raises(TurnFailed):
        async for text in turn.text():
            texts.append(text)
    for _ in range(2):
        with pytest.raises(TurnFailed, match="It failed") as raised:
            await turn
        assert (raised.value.code, raised.value.retryable, raised.value.retry_after_ms) == ("upstream_error", True, 5)
        assert raised.value.partial is not None
        assert raised.value.partial.text == "so far" == "".join(texts)
    assert (await turn.accepted()).status == "running"


async def test_a_slow_reader_gets_merged_deltas() -> None:
    """Deltas of one part are merged, not over other events, and no character is lost. It takes linear time and memory."""
    turn = begun(STARTED, PART)
    began = time.process_time()
    for seq in range(3, 50_003):
        turn._receive(delta_of(seq, "tokén "))
    assert time.process_time() - began < 10
    turn._receive(event("turn.part", seq=50_003, part=1, kind="text"))
    turn._receive(delta(50_004, "a", 1))
    turn._receive(event("turn.delta", seq=50_005, part=1, signature="s"))
    turn._receive(delta(50_006, "b", 1))
    turn._receive(event("turn.completed", seq=50_007))
    events = [received async for received in turn]
    assert [received.type for received in events] == [
        *(
            "turn.started",
            "turn.part",
            "turn.delta",
            "turn.part",
            "turn.delta",
            "turn.delta",
            "turn.delta",
            "turn.completed",
        )
    ]
    merged = to_wire(events[2])
    assert (merged["after"], merged["seq"], len(merged["text"])) == (2, 50_002, 6 * 50_000)
    assert (await turn).text == "tokén " * 50_000 + "ab"


def delta_of(seq: int, text: str) -> TurnEvent:
    """Return a delta, without the way over JSON."""
    from turnwire.client import TurnDelta

    return TurnDelta(turn="t", seq=seq, part=0, text=text)


async def test_one_reader_at_a_time() -> None:
    """A second one gets an error. After a `break`, or a cancelled wait, reading goes on with the next event."""
    turn = begun(STARTED)
    async for received in turn:
        assert received is STARTED
        break
    waits = asyncio.ensure_future(anext(aiter(turn)))
    await asyncio.sleep(0)
    with pytest.raises(TurnwireError) as raised:
        await anext(aiter(turn))
    assert raised.value.code == "already_read"
    waits.cancel()
    await asyncio.wait([waits])
    turn._receive(PART)
    assert await anext(aiter(turn)) is PART


def test_frames_in_both_codecs() -> None:
    """Unknown types and fields are kept or ignored, never fatal. What isn't a frame is a DecodeError."""
    for codec in (JSON, MSGPACK):
        frame = codec.decode(
            codec.encode({"type": "turn.delta", "turn": "t", "seq": 3, "part": 0, "as": "ann", "new": {}})
        )
        assert (frame.type, frame.user) == ("turn.delta", "ann")
        unknown = codec.decode(codec.encode({"type": "turn.new", "turn": "t", "seq": 3, "after": 1, "x": [1]}))
        assert isinstance(unknown, UnknownEvent)
        assert (unknown.turn, unknown.seq, unknown.after, unknown.fields["x"]) == ("t", 3, 1, [1])
        malformed = codec.decode(codec.encode({"type": "turn.delta", "turn": "t", "seq": "three"}))
        assert isinstance(malformed, UnknownEvent)
        junks: list[Any] = [[], {"type": 7}, {}, "x", None]
        for junk in junks:
            with pytest.raises(msgspec.DecodeError):
                codec.decode(codec.encode(junk))
        assert codec.decode_any(codec.encode({"a": "half \ud83d", "b": ["\udc00"]})) == {
            "a": "half \ufffd",
            "b": ["\ufffd"],
        }
    with pytest.raises(msgspec.DecodeError):
        JSON.decode(b"{")
    assert whole_text("\ud83d\ude00") == "😀"
