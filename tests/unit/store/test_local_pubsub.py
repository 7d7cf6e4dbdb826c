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
    """Run the pub/sub until the end of the block, and yield the list of deliveries."""
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
    """A message on another channel, before `subscribe` or after `unsubscribe` isn't delivered."""
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
    """Subscriptions are counted; a message is delivered once for any number of them."""
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
    """`unsubscribe` without a subscription doesn't cancel a later one."""
    pubsub = LocalPubSub()
    async with listening(pubsub) as received:
        await pubsub.unsubscribe("a")
        await pubsub.subscribe("a")
        await pubsub.publish("a", b"1")
    assert received == [("a", b"1")]


async def test_messages_without_a_listener_are_lost() -> None:
    """Delivery is at most once: a message published without a listener is lost, and later ones are delivered."""
    pubsub = LocalPubSub()
    await pubsub.subscribe("a")
    await pubsub.publish("a", b"lost")
    async with listening(pubsub) as received:
        await pubsub.publish("a", b"1")
    async with listening(pubsub) as again:
        await pubsub.publish("a", b"2")
    assert (received, again) == ([("a", b"1")], [("a", b"2")])


async def test_other_presence_is_found_until_it_expires() -> None:
    """Law 8: only an unexpired presence of another instance on the same user's turn counts."""
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
    """Expired presences use no memory; a presence that hasn't expired stays."""
    pubsub = LocalPubSub()
    await pubsub.renew_presence("in_1", [("ann", f"t{n}") for n in range(100)], 0)
    await pubsub.renew_presence("in_1", [("ann", "long")], 60_000)
    await pubsub.renew_presence("in_2", [("ann", "t0")], 60_000)
    assert set(pubsub._presence) == {("ann", "long"), ("ann", "t0")}
    assert await pubsub.has_other_presence("ann", "long", "in_2")


def test_a_new_entry_is_published_whole() -> None:
    """The whole entry is published on the turn's channel, so that a mirror need not read the log."""
    channel, payload = entry_publication(Append("ann", "t1", 7, 3, 4, b"events"))
    assert channel == "turn:ann:t1"
    assert msgspec.msgpack.decode(payload, type=LogEntry) == LogEntry(7, 3, 4, b"events")
