"""Signals within one process: who hears what, and who is attached to a turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from store.local_pubsub import LocalPubSub, entry_signal
from store.records import Append, LogEntry


@asynccontextmanager
async def listening(signals: LocalPubSub) -> AsyncIterator[list[tuple[str, bytes]]]:
    """What the listener hears within the block."""
    heard: list[tuple[str, bytes]] = []
    reconnects: list[None] = []
    async with asyncio.TaskGroup() as tasks:
        listener = tasks.create_task(
            signals.run_pubsub(
                lambda channel, payload: heard.append((channel, payload)), lambda: reconnects.append(None)
            )
        )
        await asyncio.sleep(0)
        yield heard
        listener.cancel()
    assert reconnects == []


async def test_only_what_is_followed_is_heard() -> None:
    """A signal on another channel, before the following or after its end is not delivered."""
    signals = LocalPubSub()
    async with listening(signals) as heard:
        await signals.publish("a", b"too early")
        await signals.subscribe("a")
        await signals.publish("a", b"1")
        await signals.publish("b", b"elsewhere")
        await signals.unsubscribe("a")
        await signals.publish("a", b"too late")
    assert heard == [("a", b"1")]


async def test_a_channel_is_heard_until_its_last_follower_leaves() -> None:
    """Following is counted; a signal is delivered once, however many follow."""
    signals = LocalPubSub()
    async with listening(signals) as heard:
        await signals.subscribe("a")
        await signals.subscribe("a")
        await signals.publish("a", b"1")
        await signals.unsubscribe("a")
        await signals.publish("a", b"2")
        await signals.unsubscribe("a")
        await signals.publish("a", b"3")
    assert heard == [("a", b"1"), ("a", b"2")]


async def test_leaving_a_channel_that_nobody_follows_is_harmless() -> None:
    """It doesn't count against a follower to come."""
    signals = LocalPubSub()
    async with listening(signals) as heard:
        await signals.unsubscribe("a")
        await signals.subscribe("a")
        await signals.publish("a", b"1")
    assert heard == [("a", b"1")]


async def test_without_a_listener_nothing_is_kept() -> None:
    """At most once: what nobody listens to is gone, and a later listener hears what comes then."""
    signals = LocalPubSub()
    await signals.subscribe("a")
    await signals.publish("a", b"lost")
    async with listening(signals) as heard:
        await signals.publish("a", b"1")
    async with listening(signals) as again:
        await signals.publish("a", b"2")
    assert (heard, again) == ([("a", b"1")], [("a", b"2")])


async def test_a_turn_is_attached_elsewhere_while_another_instance_says_so() -> None:
    """Law 8: one's own touch doesn't count, nor another turn's or user's, nor one whose time is over."""
    signals = LocalPubSub()
    await signals.renew_presence("in_1", [("ann", "t1"), ("ann", "t2")], 60_000)
    await signals.renew_presence("in_2", [("ann", "t3")], 0)
    assert await signals.has_other_presence("ann", "t1", "in_2")
    assert not await signals.has_other_presence("ann", "t1", "in_1")
    assert not await signals.has_other_presence("ann", "t3", "in_1")
    assert not await signals.has_other_presence("bob", "t1", "in_2")
    await signals.renew_presence("in_2", [("ann", "t1")], 60_000)
    assert await signals.has_other_presence("ann", "t1", "in_1")


async def test_touches_whose_time_is_over_are_forgotten() -> None:
    """Nothing grows with the turns that once were; a touch that holds stays."""
    signals = LocalPubSub()
    await signals.renew_presence("in_1", [("ann", f"t{n}") for n in range(100)], 0)
    await signals.renew_presence("in_1", [("ann", "long")], 60_000)
    await signals.renew_presence("in_2", [("ann", "t0")], 60_000)
    assert set(signals._touched) == {("ann", "long"), ("ann", "t0")}
    assert await signals.has_other_presence("ann", "long", "in_2")


def test_a_new_entry_is_told_whole() -> None:
    """On the turn's channel, so that a follower need not read the log."""
    channel, payload = entry_signal(Append("ann", "t1", 7, 3, 4, b"events"))
    assert channel == "turn:ann:t1"
    assert msgspec.msgpack.decode(payload, type=LogEntry) == LogEntry(7, 3, 4, b"events")
