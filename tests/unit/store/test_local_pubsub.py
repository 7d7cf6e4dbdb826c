"""Signals within one process: who hears what, and who is attached to a turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from store.local_pubsub import LocalPubSub, entry_publication
from store.records import Append, LogEntry


@asynccontextmanager
async def listening(pubsub: LocalPubSub) -> AsyncIterator[list[tuple[str, bytes]]]:
    """What the listener hears within the block."""
    heard: list[tuple[str, bytes]] = []
    reconnects: list[None] = []
    async with asyncio.TaskGroup() as tasks:
        listener = tasks.create_task(
            pubsub.run_pubsub(
                lambda channel, payload: heard.append((channel, payload)), lambda: reconnects.append(None)
            )
        )
        await asyncio.sleep(0)
        yield heard
        listener.cancel()
    assert reconnects == []


async def test_only_what_is_followed_is_heard() -> None:
    """A signal on another channel, before the following or after its end is not delivered."""
    pubsub = LocalPubSub()
    async with listening(pubsub) as heard:
        await pubsub.publish("a", b"too early")
        await pubsub.subscribe("a")
        await pubsub.publish("a", b"1")
        await pubsub.publish("b", b"elsewhere")
        await pubsub.unsubscribe("a")
        await pubsub.publish("a", b"too late")
    assert heard == [("a", b"1")]


async def test_a_channel_is_heard_until_its_last_follower_leaves() -> None:
    """Following is counted; a signal is delivered once, however many follow."""
    pubsub = LocalPubSub()
    async with listening(pubsub) as heard:
        await pubsub.subscribe("a")
        await pubsub.subscribe("a")
        await pubsub.publish("a", b"1")
        await pubsub.unsubscribe("a")
        await pubsub.publish("a", b"2")
        await pubsub.unsubscribe("a")
        await pubsub.publish("a", b"3")
    assert heard == [("a", b"1"), ("a", b"2")]


async def test_leaving_a_channel_that_nobody_follows_is_harmless() -> None:
    """It doesn't count against a follower to come."""
    pubsub = LocalPubSub()
    async with listening(pubsub) as heard:
        await pubsub.unsubscribe("a")
        await pubsub.subscribe("a")
        await pubsub.publish("a", b"1")
    assert heard == [("a", b"1")]


async def test_without_a_listener_nothing_is_kept() -> None:
    """At most once: what nobody listens to is gone, and a later listener hears what comes then."""
    pubsub = LocalPubSub()
    await pubsub.subscribe("a")
    await pubsub.publish("a", b"lost")
    async with listening(pubsub) as heard:
        await pubsub.publish("a", b"1")
    async with listening(pubsub) as again:
        await pubsub.publish("a", b"2")
    assert (heard, again) == ([("a", b"1")], [("a", b"2")])


async def test_a_turn_is_attached_elsewhere_while_another_instance_says_so() -> None:
    """Law 8: one's own touch doesn't count, nor another turn's or user's, nor one whose time is over."""
    pubsub = LocalPubSub()
    await pubsub.renew_presence("in_1", [("ann", "t1"), ("ann", "t2")], 60_000)
    await pubsub.renew_presence("in_2", [("ann", "t3")], 0)
    assert await pubsub.has_other_presence("ann", "t1", "in_2")
    assert not await pubsub.has_other_presence("ann", "t1", "in_1")
    assert not await pubsub.has_other_presence("ann", "t3", "in_1")
    assert not await pubsub.has_other_presence("bob", "t1", "in_2")
    await pubsub.renew_presence("in_2", [("ann", "t1")], 60_000)
    assert await pubsub.has_other_presence("ann", "t1", "in_1")


async def test_touches_whose_time_is_over_are_forgotten() -> None:
    """Nothing grows with the turns that once were; a touch that holds stays."""
    pubsub = LocalPubSub()
    await pubsub.renew_presence("in_1", [("ann", f"t{n}") for n in range(100)], 0)
    await pubsub.renew_presence("in_1", [("ann", "long")], 60_000)
    await pubsub.renew_presence("in_2", [("ann", "t0")], 60_000)
    assert set(pubsub._presence) == {("ann", "long"), ("ann", "t0")}
    assert await pubsub.has_other_presence("ann", "long", "in_2")


def test_a_new_entry_is_told_whole() -> None:
    """On the turn's channel, so that a follower need not read the log."""
    channel, payload = entry_publication(Append("ann", "t1", 7, 3, 4, b"events"))
    assert channel == "turn:ann:t1"
    assert msgspec.msgpack.decode(payload, type=LogEntry) == LogEntry(7, 3, 4, b"events")
