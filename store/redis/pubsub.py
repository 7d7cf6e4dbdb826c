"""Pub/sub over Redis: one connection per process, and in a cluster with sharded pub/sub one per node that has channels.

Subscribers only change a count, queue a command and wait; only the listeners read and write, so that a cancelled
subscriber can't cut a command in two. A connection that is lost, or whose server is no longer the primary, is replaced;
the loss is reported only when every channel is subscribed again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from redis.crc import key_slot

from store.api import Deliver
from store.errors import StoreError
from store.redis.client import CALL_TIMEOUT_S, UNREACHABLE, RedisClient, RedisPart
from store.redis.commands import Argument
from store.redis.feed import Feed, Subscription
from store.redis.keys import encode_text, user_prefix
from store.redis.node import RedisNode


class RedisPubSub(RedisPart):
    """`PubSub` in Redis."""

    def __init__(self, client: RedisClient) -> None:
        super().__init__(client)
        self._subscriptions: dict[str, Subscription] = {}
        self._feeds: dict[RedisNode | None, Feed] = {}
        self._deliver: Deliver | None = None
        self._on_reconnect: Callable[[], None] | None = None
        self._tasks: asyncio.TaskGroup | None = None

    async def publish(self, channel: str, payload: bytes) -> None:
        """See `PubSub`."""
        await self._client.publish(channel, payload)

    async def subscribe(self, channel: str) -> None:
        """See `PubSub`. Raises `StoreError` if Redis doesn't confirm the subscription in time."""
        subscription = self._subscriptions.get(channel)
        if subscription is None:
            subscription = Subscription(channel, self._client.channel_name(channel))
            self._subscriptions[channel] = subscription
            self._feed(self._place(subscription.name)).subscribe(subscription)
        subscription.count += 1
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await subscription.confirmed.wait()
        except BaseException as error:
            self._drop_subscription(subscription)
            if isinstance(error, TimeoutError):
                raise StoreError(UNREACHABLE) from error
            raise

    async def unsubscribe(self, channel: str) -> None:
        """See `PubSub`."""
        if (subscription := self._subscriptions.get(channel)) is not None:
            self._drop_subscription(subscription)

    def _drop_subscription(self, subscription: Subscription) -> None:
        subscription.count -= 1
        if subscription.count <= 0 and self._subscriptions.get(subscription.channel) is subscription:
            del self._subscriptions[subscription.channel]
            subscription.confirmed.set()  # wake subscribers that still wait; none is counted any more
            if subscription.feed is not None:
                subscription.feed.unsubscribe(subscription)

    def _place(self, name: bytes) -> RedisNode | None:
        """Return the node that has the channel; None if each node has all channels, or if it isn't known."""
        cluster = self._client.cluster
        return cluster.master_of(key_slot(name)) if cluster is not None and self._client.is_sharded else None

    def _feed(self, place: RedisNode | None) -> Feed:
        """Return the feed from this node, and start its listener if `run_pubsub` runs."""
        feed = self._feeds.get(place)
        if feed is None:
            feed = self._feeds[place] = Feed(self._client, place, self._settle)
            if self._tasks is not None:
                self._start(feed)
        return feed

    def _start(self, feed: Feed) -> None:
        assert self._tasks is not None
        assert self._deliver is not None
        assert self._on_reconnect is not None
        feed.task = self._tasks.create_task(feed.run(self._deliver, self._on_reconnect))

    async def run_pubsub(self, deliver: Deliver, on_reconnect: Callable[[], None]) -> None:
        """See `PubSub`."""
        self._deliver, self._on_reconnect = deliver, on_reconnect
        self._client.on_change(self._settle)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                if not self._client.is_sharded:
                    self._feed(None)
                for feed in self._feeds.values():
                    if feed.task is None:
                        self._start(feed)
                await asyncio.get_running_loop().create_future()  # until cancelled
        finally:
            self._tasks = None
            for feed in self._feeds.values():
                feed.task = None

    def _settle(self) -> None:
        """Move the channels whose node has changed to its feed, and leave the nodes that aren't masters any more."""
        known = self._client.known_masters
        if not self._client.is_sharded:
            for feed in self._feeds.values():
                if known and feed.node is not None and feed.node not in known:
                    feed.cut()
            return
        for feed in list(self._feeds.values()):
            moved: dict[RedisNode | None, list[Subscription]] = defaultdict(list)
            for subscription in feed.subscriptions.values():
                place = self._place(subscription.name)
                if place is not feed.place:
                    moved[place].append(subscription)
            for place, subscriptions in moved.items():
                feed.give(subscriptions)
                self._feed(place).adopt(subscriptions)
        for place, feed in list(self._feeds.items()):
            if not feed.subscriptions and place not in known:
                del self._feeds[place]
                feed.end()

    async def renew_presence(self, instance: str, turns: list[tuple[str, str]], ttl_ms: int) -> None:
        """See `PubSub`."""
        by_user: dict[str, list[Argument]] = defaultdict(list)
        for user, turn in turns:
            by_user[user].append(encode_text(turn))
        if by_user:
            await self._client.scripts(
                [("renew_presence", user_prefix(user), (instance, ttl_ms, *ids)) for user, ids in by_user.items()]
            )

    async def has_other_presence(self, user: str, turn: str, instance: str) -> bool:
        """See `PubSub`. Also return True if the turn doesn't exist, because its presence is lost too."""
        return bool(await self._script("has_other_presence", user, turn, instance))
