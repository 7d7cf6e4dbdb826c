"""The hub: what it finds, what is kept of ended turns, and who watches which conversation."""

from __future__ import annotations

import asyncio

import pytest

from gateway.protocol.events import Heartbeat
from gateway.turns.live_turn import TurnStream
from gateway.turns.registry import Hub
from tests.stream_reader import Reader, begin, say, stream_of
from tests.turn_events import completed


def lived(hub: Hub, turn: str, size: int = 0, user: str = "ann", conversation: str | None = "c") -> TurnStream:
    """A turn that ended in the hub."""
    stream = stream_of(turn, user=user)
    hub.add(stream, conversation)
    begin(stream)
    if size:
        say(stream, "x" * size)
    stream.publish([completed(stream.log.end + 1, turn)])
    hub.remember_ended(stream)
    return stream


async def test_turns_are_found_by_user_and_conversation() -> None:
    """Law 12: a turn is found by its user and id; live ones by user and conversation, oldest first."""
    hub = Hub(60)
    mine, theirs, loose = stream_of("t"), stream_of("t", user="bob"), stream_of("loose")
    hub.add(mine, "c")
    hub.add(theirs, "c")
    hub.add(loose, None)
    assert hub.get("ann", "t") is mine
    assert hub.get("bob", "t") is theirs
    assert hub.get("eve", "t") is None
    assert hub.live() == [mine, theirs, loose]
    assert hub.live("ann") == [mine, loose]
    assert hub.live_in("ann", "c") == [mine]
    assert hub.live_in("ann", "elsewhere") == []
    hub.place(loose, "c")
    hub.place(loose, "again")
    assert hub.live_in("ann", "c") == [mine, loose]
    hub.discard(mine)
    hub.discard(theirs)
    assert hub.get("ann", "t") is None
    assert hub.live_in("ann", "c") == [loose]


async def test_an_ended_turn_is_kept_for_its_time() -> None:
    """It can be resumed until the time is over; it is live no longer."""
    hub = Hub(0.02)
    old = lived(hub, "old")
    assert hub.get("ann", "old") is old
    assert hub.live() == []
    assert hub.live_in("ann", "c") == []
    await asyncio.sleep(0.03)
    lived(hub, "new")
    assert hub.get("ann", "old") is None
    assert hub.get("ann", "new") is not None


async def test_ended_turns_are_kept_within_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound the oldest go first; what they took is given back."""
    monkeypatch.setattr("gateway.turns.registry.ENDED_BYTES_MAX", 60_000)
    hub = Hub(600)
    for n in range(10):
        lived(hub, f"t{n}", 10_000)
    kept = [n for n in range(10) if hub.get("ann", f"t{n}")]
    assert kept == list(range(10 - len(kept), 10))
    assert 2 <= len(kept) <= 5
    lived(hub, "large", 100_000)
    assert hub.get("ann", "large") is None


async def test_watchers_get_every_turn_of_their_own_conversation() -> None:
    """A watched conversation's turns arrive without attaching; law 12: only those of the same user."""
    hub, reader, stranger = Hub(60), Reader(), Reader()
    hub.watch("ann", "c", reader.outbox)
    hub.watch("eve", "c", stranger.outbox)
    stream = stream_of()
    hub.add(stream, "c")
    hub.attach_watchers(stream)
    hub.attach_watchers(stream)
    begin(stream)
    hub.tell_watchers("ann", "c", Heartbeat(1))
    reader.take()
    stranger.take()
    assert {frame["type"] for frame in reader.frames} == {"turn.started", "turn.part", "heartbeat"}
    assert stranger.frames == []
    for conversation in ("c", "c", "unknown"):
        hub.unwatch("ann", conversation, reader.outbox)
    hub.unwatch("eve", "c", stranger.outbox)
    later = stream_of("later")
    hub.add(later, "c")
    hub.attach_watchers(later)
    hub.tell_watchers("ann", "c", Heartbeat(2))
    assert "later" not in reader.outbox.attachments
    loose = stream_of("loose")
    hub.add(loose, None)
    hub.attach_watchers(loose)


async def test_two_watchers_of_one_conversation_are_independent() -> None:
    """The end of one doesn't end the other."""
    hub, one, two = Hub(60), Reader(), Reader()
    hub.watch("ann", "c", one.outbox)
    hub.watch("ann", "c", two.outbox)
    hub.unwatch("ann", "c", one.outbox)
    hub.tell_watchers("ann", "c", Heartbeat(1))
    one.take()
    two.take()
    assert (len(one.frames), len(two.frames)) == (0, 1)
