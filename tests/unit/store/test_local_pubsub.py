"""Pub/sub within one process: deliveries, and the presence of instances on turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from store.local_pubsub import LocalPubSub, entry_publication
from store.records import Append, LogEntry


@asynccontextmanager
async def listening(pubsub: LocalPubSub) -> AsyncIterator[list[tuple[str, bytes]]]:
    """What the listener receives within the block."""
    received: list[tuple[str, bytes]] = []
    reconnects: list[None] = []
    async with asyncio.TaskGroup() as tasks:
        listener = tasks.create_task(
            pubsub.run_pubsub(
                lambda channel, payload: received.append((channel, payload)), lambda: reconnects.append(None)
            )
        )
        await asyncio.sleep(0)
        yield received
        listener.cancel()
    assert reconnects == []


async def test_only_subscribed_channels_are_delivered() -> None:
    """A signal on another channel, before the following or after its end is not delivered."""
    pubsub = LocalPubSub()
    async with listening(pubsub) as received:
        await pubsub.publish("a", b"too early")
        await pubsub.subscribe("a")
        await pubsub.publish("a", b"1")
        await pubsub.publish("b", b"elsewhere")
        await pubsub.unsubscribe("a")
        await pubsub.publish("a", b"too late")
    assert received == [("a", b"1")]


async def test_a_channel_is_delivered_until_its_last_subscription_ends() -> None:
    """Subscriptions are counted; a message is delivered once, however many there are."""
    pubsub = LocalPubSub()
    async with listening(pubsub) as received:
        await pubsub.subscribe("a")
        await pubsub.subscribe("a")
        await pubsub.publish("a", b"1")
        await pubsub.unsubscribe("a")
        await pubsub.publish("a", b"2")
        await pubsub.unsubscribe("a")
        await pubsub.publish("a", b"3")
    assert received == [("a", b"1"), ("a", b"2")]


async def test_unsubscribing_without_a_subscription_is_harmless() -> None:
    """It doesn't count against a follower to come."""
    pubsub = LocalPubSub()
    async with listening(pubsub) as received:
        await pubsub.unsubscribe("a")
        await pubsub.subscribe("a")
        await pubsub.publish("a", b"1")
    assert received == [("a", b"1")]


async def test_without_a_listener_nothing_is_stored() -> None:
    """At most once: what is published without a listener is lost, and a later listener gets what comes then."""
    pubsub = LocalPubSub()
    await pubsub.subscribe("a")
    await pubsub.publish("a", b"lost")
    async with listening(pubsub) as received:
        await pubsub.publish("a", b"1")
    async with listening(pubsub) as again:
        await pubsub.publish("a", b"2")
    assert (received, again) == ([("a", b"1")], [("a", b"2")])


async def test_a_turn_has_other_presence_until_it_expires() -> None:
    """Law 8: an instance's own presence doesn't count, nor another turn's or user's, nor an expired one."""
    pubsub = LocalPubSub()
    await pubsub.renew_presence("in_1", [("ann", "t1"), ("ann", "t2")], 60_000)
    await pubsub.renew_presence("in_2", [("ann", "t3")], 0)
    assert await pubsub.has_other_presence("ann", "t1", "in_2")
    assert not await pubsub.has_other_presence("ann", "t1", "in_1")
    assert not await pubsub.has_other_presence("ann", "t3", "in_1")
    assert not await pubsub.has_other_presence("bob", "t1", "in_2")
    await pubsub.renew_presence("in_2", [("ann", "t1")], 60_000)
    assert await pubsub.has_other_presence("ann", "t1", "in_1")


async def test_expired_presences_are_deleted() -> None:
    """Memory doesn't grow with the turns that once were; a presence that hasn't expired stays."""
    pubsub = LocalPubSub()
    await pubsub.renew_presence("in_1", [("ann", f"t{n}") for n in range(100)], 0)
    await pubsub.renew_presence("in_1", [("ann", "long")], 60_000)
    await pubsub.renew_presence("in_2", [("ann", "t0")], 60_000)
    assert set(pubsub._presence) == {("ann", "long"), ("ann", "t0")}
    assert await pubsub.has_other_presence("ann", "long", "in_2")


def test_a_new_entry_is_published_completely() -> None:
    """On the turn's channel, so that a follower need not read the log."""
    channel, payload = entry_publication(Append("ann", "t1", 7, 3, 4, b"events"))
    assert channel == "turn:ann:t1"
    assert msgspec.msgpack.decode(payload, type=LogEntry) == LogEntry(7, 3, 4, b"events")
