"""The turn registry: lookups, retention of ended turns, and subscriptions to conversations."""

from __future__ import annotations

import asyncio

import pytest

from gateway.protocol.events import Heartbeat
from gateway.turns.live_turn import LiveTurn
from gateway.turns.registry import TurnRegistry
from tests.stream_reader import Reader, begin, publish_text, stream_of
from tests.turn_events import completed


def ended_turn(
    registry: TurnRegistry, turn: str, size: int = 0, user: str = "ann", conversation: str | None = "c"
) -> LiveTurn:
    """Add a turn to the registry, let it end, and return it."""
    stream = stream_of(turn, user=user, conversation=conversation)
    registry.add(stream)
    begin(stream)
    if size:
        publish_text(stream, "x" * size)
    stream.publish([completed(stream.log.end + 1, turn)])
    registry.mark_ended(stream)
    return stream


async def test_turns_are_found_by_user_and_conversation() -> None:
    """Law 12: a turn is found by its user and id, and live turns by user and conversation, oldest first."""
    registry = TurnRegistry(60)
    mine, theirs = stream_of("t", conversation="c"), stream_of("t", user="bob", conversation="c")
    loose = stream_of("loose")
    for stream in (mine, theirs, loose):
        registry.add(stream)
    assert registry.get("ann", "t") is mine
    assert registry.get("bob", "t") is theirs
    assert registry.get("eve", "t") is None
    assert registry.live() == [mine, theirs, loose]
    assert registry.live("ann") == [mine, loose]
    assert registry.live_in("ann", "c") == [mine]
    assert registry.live_in("ann", "elsewhere") == []
    registry.index_conversation(loose)
    loose.conversation = "c"
    registry.index_conversation(loose)
    registry.index_conversation(loose)
    assert registry.live_in("ann", "c") == [mine, loose]
    registry.remove(mine)
    registry.remove(theirs)
    assert registry.get("ann", "t") is None
    assert registry.live_in("ann", "c") == [loose]


async def test_an_ended_turn_is_kept_for_its_retention_time() -> None:
    """An ended turn can be resumed until its retention time is over, and isn't live."""
    registry = TurnRegistry(0.02)
    old = ended_turn(registry, "old")
    assert registry.get("ann", "old") is old
    assert registry.live() == []
    assert registry.live_in("ann", "c") == []
    await asyncio.sleep(0.03)
    ended_turn(registry, "new")
    assert registry.get("ann", "old") is None
    assert registry.get("ann", "new") is not None


async def test_ended_turns_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound the oldest turns are removed first, and their bytes no longer count."""
    monkeypatch.setattr("gateway.turns.registry.ENDED_BYTES_MAX", 60_000)
    registry = TurnRegistry(600)
    for n in range(10):
        ended_turn(registry, f"t{n}", 10_000)
    kept = [n for n in range(10) if registry.get("ann", f"t{n}")]
    assert kept == list(range(10 - len(kept), 10))
    assert 2 <= len(kept) <= 5
    ended_turn(registry, "large", 100_000)
    assert registry.get("ann", "large") is None


async def test_subscribers_get_every_turn_of_their_own_conversation() -> None:
    """The turns of a subscribed conversation arrive without an attach. Law 12: a subscriber gets only turns of the same
    user."""
    registry, reader, stranger = TurnRegistry(60), Reader(), Reader()
    registry.subscribe("ann", "c", reader.outbox)
    registry.subscribe("eve", "c", stranger.outbox)
    stream = stream_of(conversation="c")
    registry.add(stream)
    registry.attach_subscribers(stream)
    registry.attach_subscribers(stream)
    begin(stream)
    registry.send_to_subscribers("ann", "c", Heartbeat(1))
    reader.take()
    stranger.take()
    assert {frame["type"] for frame in reader.frames} == {"turn.started", "turn.part", "heartbeat"}
    assert stranger.frames == []
    for conversation in ("c", "c", "unknown"):
        registry.unsubscribe("ann", conversation, reader.outbox)
    registry.unsubscribe("eve", "c", stranger.outbox)
    later = stream_of("later", conversation="c")
    registry.add(later)
    registry.attach_subscribers(later)
    registry.send_to_subscribers("ann", "c", Heartbeat(2))
    assert "later" not in reader.outbox.attachments
    loose = stream_of("loose")
    registry.add(loose)
    registry.attach_subscribers(loose)


async def test_two_subscriptions_of_one_conversation_are_independent() -> None:
    """The end of one subscription doesn't end the other."""
    registry, one, two = TurnRegistry(60), Reader(), Reader()
    registry.subscribe("ann", "c", one.outbox)
    registry.subscribe("ann", "c", two.outbox)
    registry.unsubscribe("ann", "c", one.outbox)
    registry.send_to_subscribers("ann", "c", Heartbeat(1))
    one.take()
    two.take()
    assert (len(one.frames), len(two.frames)) == (0, 1)
