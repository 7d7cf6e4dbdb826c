"""Tests of an outbox whose frames are the events themselves, for the stream of a dialect."""

from __future__ import annotations

from typing import Any

from gateway.protocol.codec import EVENTS, JSON
from gateway.protocol.events import Heartbeat, TurnDelta, TurnPart
from gateway.streams.log import TurnLog
from gateway.streams.outbox import Attachment, Outbox


def test_frames_are_merged_events() -> None:
    """A reader that is behind gets the same frames as one of JSON, unencoded."""
    log = TurnLog("t", 1)
    log.events += [TurnPart(turn="t", seq=1, part=0, kind="text"), *(TurnDelta("t", n, 0, f"{n}") for n in (2, 3, 4))]
    outboxes = [Outbox(codec, 10_000, lambda: None, lambda: None) for codec in (EVENTS, JSON)]
    frames: list[list[Any]] = []
    for outbox in outboxes:
        outbox.attach(Attachment(log, outbox, 0, None, lambda _: None))
        frames.append(list(iter(outbox.next_frame, None)))
    assert frames[0] == [log.events[0], TurnDelta("t", 4, 0, "234", after=1)]
    assert [JSON.encode(event) for event in frames[0]] == frames[1]


def test_answers_are_counted_until_they_are_sent() -> None:
    outbox = Outbox(EVENTS, 10_000, lambda: None, lambda: None)
    outbox.put(Heartbeat(1))
    assert outbox.waiting_bytes > 0
    frame: Any = outbox.next_frame()
    assert frame == Heartbeat(1)
    assert outbox.waiting_bytes == 0
