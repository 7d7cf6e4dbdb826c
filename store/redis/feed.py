"""The subscriptions of this process at one Redis server, and the listener that keeps a connection for them.

Channels can be handed to another feed, when their slot has moved to another node of a cluster.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, ReadOnlyError, RedisError

from store.api import Deliver
from store.errors import StoreError
from store.redis.client import CALL_TIMEOUT_S, RedisClient
from store.redis.node import RedisNode, connect

PING_INTERVAL_S = 1.0
"""The time between two HELLO commands. HELLO serves as a ping, and its answer has the server's role."""
READ_TIMEOUT_S = 15.0
RECONNECT_DELAY_S_MIN, RECONNECT_DELAY_S_MAX = 0.05, 2.0
CHANNELS_PER_COMMAND = 500


class Subscription:
    """The subscription to one channel: its number of subscribers, its feed, and whether Redis has confirmed it.

    `name`: the channel's name in Redis.
    """

    __slots__ = ("channel", "confirmed", "count", "feed", "name")

    def __init__(self, channel: str, name: bytes) -> None:
        self.channel = channel
        self.name = name
        self.count = 0
        self.confirmed = asyncio.Event()
        self.feed: Feed | None = None


class Feed:
    """The subscriptions at `place`, a node of a cluster; None: at any server that accepts writes.

    `settle` hands channels over to other feeds when their node has changed. `has_lost`: messages of a channel may be lost, which
    is to be reported when all channels are confirmed. `node`: the server of the present connection.
    """

    def __init__(self, client: RedisClient, place: RedisNode | None, settle: Callable[[], None]) -> None:
        self.place = place
        self.subscriptions: dict[bytes, Subscription] = {}
        self.pending: list[tuple[str, bytes]] = []
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.node = place
        self.has_lost = False
        self.is_sharded = client.is_sharded
        self._client = client
        self._settle = settle
        self._listener: _Listener | None = None
        self._dropped: set[bytes] = set()
        self._resettling: asyncio.Task[None] | None = None
        self._ended = False
        self._connection: AbstractConnection | None = None
        self._cutting: asyncio.Task[None] | None = None

    def subscribe(self, subscription: Subscription) -> None:
        """Add a subscription and queue its command."""
        subscription.feed = self
        self.subscriptions[subscription.name] = subscription
        self._send("SUBSCRIBE", subscription.name)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscription and queue its command."""
        if self.subscriptions.get(subscription.name) is subscription:
            del self.subscriptions[subscription.name]
            self._dropped.discard(subscription.name)
            self._send("UNSUBSCRIBE", subscription.name)

    def give(self, subscriptions: Iterable[Subscription]) -> None:
        """Remove subscriptions that another feed will adopt."""
        for subscription in subscriptions:
            self.unsubscribe(subscription)
            subscription.confirmed.clear()
            if self._listener is not None:
                self._listener.forget(subscription.name)

    def adopt(self, subscriptions: Iterable[Subscription]) -> None:
        """Add subscriptions of another feed. The loss is reported when they are confirmed, before their messages."""
        self.has_lost = True
        for subscription in subscriptions:
            if self._listener is not None:
                self._listener.expect(subscription.name)
            self.subscribe(subscription)

    def drop(self, name: bytes) -> None:
        """Note that the server has ended this subscription, because the channel's slot has moved."""
        subscription = self.subscriptions.get(name)
        if subscription is not None:
            subscription.confirmed.clear()
            self._dropped.add(name)
            self._resettle()

    def move(self, error: MovedError) -> None:
        """Note that the server refuses a subscription, because the channel's slot is at another node."""
        if self._client.cluster is not None and self.place is not None:
            self._client.cluster.moved(error, self.place)
            self._settle()
        else:
            raise error

    def _resettle(self) -> None:
        if self._resettling is None or self._resettling.done():
            self._resettling = asyncio.get_running_loop().create_task(self._look_for_dropped())

    async def _look_for_dropped(self) -> None:
        """Look for the nodes of the dropped channels. Those that still seem to be here are subscribed again."""
        while self._dropped:
            dropped, self._dropped = self._dropped, set()
            await self._client.renew_topology()
            self._settle()
            here = [subscription for name, subscription in self.subscriptions.items() if name in dropped]
            if here:
                self.adopt(here)

    async def run(self, deliver: Deliver, on_reconnect: Callable[[], None]) -> None:
        """Deliver the messages until cancelled or ended. Call `on_reconnect` after each loss."""
        delay_s = RECONNECT_DELAY_S_MIN
        try:
            while not self._ended:
                listener = self._listener = _Listener(self, deliver, on_reconnect)
                is_demoted = False
                try:
                    node = self.node = self.place or (await self._client.masters())[0]
                    # Over RESP 2, a connection with subscriptions can't send the HELLO that returns the server's role.
                    self._connection = node.connection(protocol=3)
                    await listener.run(self._connection)
                except (RedisError, OSError, StoreError) as error:
                    is_demoted = isinstance(error, ReadOnlyError)
                    if (task := asyncio.current_task()) and task.cancelling():
                        # A connection that is lost during a cancellation replaces the cancellation with its own error.
                        raise asyncio.CancelledError from None
                finally:
                    self._listener = None
                    for subscription in self.subscriptions.values():
                        subscription.confirmed.clear()
                if listener.was_complete:
                    self.has_lost = True
                if is_demoted:
                    await self._client.leave_replica()
                else:
                    if listener.was_complete:
                        delay_s = RECONNECT_DELAY_S_MIN
                    await self._client.renew_topology()
                self._settle()
                if not self._ended:
                    await asyncio.sleep(random.uniform(0.5, 1) * delay_s)
                    delay_s = min(2 * delay_s, RECONNECT_DELAY_S_MAX)
        finally:
            if self._resettling is not None:
                self._resettling.cancel()

    def cut(self) -> None:
        """Close the connection, because another server is the master now. `run` opens one to that server."""
        if self._connection is not None and (self._cutting is None or self._cutting.done()):
            self._cutting = asyncio.get_running_loop().create_task(self._connection.disconnect(nowait=True))

    def end(self) -> None:
        """End `run`."""
        self._ended = True
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()

    def _send(self, command: str, name: bytes) -> None:
        self.pending.append((command, name))
        self.wake.set()


class _Listener:
    """The listener on one connection.

    `is_complete`: every channel that had a subscription when the connection opened, and each adopted one, is confirmed.
    `was_complete`: this was the case once.
    """

    def __init__(self, feed: Feed, deliver: Deliver, on_reconnect: Callable[[], None]) -> None:
        self._feed = feed
        self._deliver = deliver
        self._on_reconnect = on_reconnect
        self._unconfirmed: Counter[bytes] = Counter()
        self._leaving: Counter[bytes] = Counter()
        self._missing: set[bytes] = set()
        self._early: list[tuple[str, bytes]] = []
        self.is_complete = False
        self.was_complete = False

    async def run(self, connection: AbstractConnection) -> None:
        """Listen until the connection is lost or silent for too long, and raise the error.

        Raises `ReadOnlyError` when the server says that it is a replica.
        """
        feed = self._feed
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await connect(connection)
            parser: Any = connection._parser
            parser.set_pubsub_push_handler(_pass)
            self._missing = set(feed.subscriptions)
            feed.pending = [("SUBSCRIBE", name) for name in feed.subscriptions]
            feed.wake.set()
            if not self._missing:
                self._complete()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(connection))
                await self._read(connection)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            await connection.disconnect(nowait=True)

    def expect(self, name: bytes) -> None:
        """Wait for the confirmation of one more channel before more is delivered."""
        self._missing.add(name)
        self.is_complete = False

    def forget(self, name: bytes) -> None:
        """Wait for the confirmation of this channel no longer."""
        self._unconfirmed.pop(name, None)
        self._found(name)

    async def _write(self, connection: AbstractConnection) -> None:
        feed = self._feed
        loop = asyncio.get_running_loop()
        ping_at = loop.time() + PING_INTERVAL_S
        prefix = "S" if feed.is_sharded else ""
        while True:
            try:
                async with asyncio.timeout_at(ping_at):
                    await feed.wake.wait()
            except TimeoutError:
                await connection.send_command("HELLO", check_health=False)
                ping_at = loop.time() + PING_INTERVAL_S
                continue
            feed.wake.clear()
            pending, feed.pending = feed.pending, []
            # The channels of one SSUBSCRIBE have to be in one slot.
            for command, names in _batches(pending, 1 if feed.is_sharded else CHANNELS_PER_COMMAND):
                counts = self._unconfirmed if command == "SUBSCRIBE" else self._leaving
                counts.update(names)
                await connection.send_command(prefix + command, *names, check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        subscriptions = self._feed.subscriptions
        while True:
            try:
                reply: Any = await connection.read_response(timeout=READ_TIMEOUT_S, push_request=True)
            except MovedError as error:
                self._feed.move(error)
                continue
            if reply is None:
                raise RedisConnectionError("no answer to pings")
            if isinstance(reply, dict):  # the answer to HELLO
                if reply[b"role"] == b"replica":
                    raise ReadOnlyError("the server is a replica")
                continue
            kind = reply[0]
            if kind in {b"message", b"smessage"}:
                subscription = subscriptions.get(reply[1])
                if subscription is not None:
                    self._deliver_message(subscription.channel, reply[2])
            elif kind in {b"subscribe", b"ssubscribe"}:
                self._confirm(reply[1])
            elif kind in {b"unsubscribe", b"sunsubscribe"}:
                self._left(reply[1])

    def _deliver_message(self, channel: str, payload: bytes) -> None:
        if self.is_complete:
            self._deliver(channel, payload)
        else:
            self._early.append((channel, payload))

    def _confirm(self, name: bytes) -> None:
        """Handle the confirmation of a SUBSCRIBE of `name`; ignore it if a later one is still unconfirmed."""
        self._unconfirmed[name] -= 1
        if self._unconfirmed[name] > 0:
            return
        del self._unconfirmed[name]
        if name in self._feed.subscriptions:
            self._feed.subscriptions[name].confirmed.set()
        self._found(name)

    def _left(self, name: bytes) -> None:
        """Handle the end of a subscription. Without an UNSUBSCRIBE of ours, the channel's slot has moved."""
        if self._leaving[name] > 1:
            self._leaving[name] -= 1
        elif self._leaving.pop(name, 0) == 0:
            self._feed.drop(name)

    def _found(self, name: bytes) -> None:
        self._missing.discard(name)
        if not self._missing and not self.is_complete:
            self._complete()

    def _complete(self) -> None:
        self.is_complete = self.was_complete = True
        if self._feed.has_lost:
            self._feed.has_lost = False
            self._on_reconnect()
        for channel, payload in self._early:
            self._deliver(channel, payload)
        self._early.clear()


async def _pass(message: Any) -> Any:
    """Return a pushed message; redis-py's own handler formats each one for its log, whether it logs or not."""
    return message


def _batches(pending: list[tuple[str, bytes]], channels_max: int) -> list[tuple[str, list[bytes]]]:
    """Merge neighboring commands of one kind, up to `channels_max` channels."""
    batches: list[tuple[str, list[bytes]]] = []
    for command, name in pending:
        if batches and batches[-1][0] == command and len(batches[-1][1]) < channels_max:
            batches[-1][1].append(name)
        else:
            batches.append((command, [name]))
    return batches
