"""Pub/sub over Redis: one connection per process for all channels that the process subscribes to.

Subscribers only change a count, queue a command and wait; only the listener reads and writes, so that a cancelled
subscriber can't cut a command in two. A connection that is lost, or whose server is no longer the primary, is replaced;
the loss is reported only when every channel is subscribed again.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError

from store.api import Deliver
from store.records import StoreError
from store.redis.client import CALL_TIMEOUT_S, UNREACHABLE, RedisClient, RedisPart, connect
from store.redis.commands import Argument
from store.redis.keys import encode_text, user_prefix

PING_INTERVAL_S = 1.0
"""The time between two HELLO commands. HELLO serves as a ping, and its answer has the server's role."""
READ_TIMEOUT_S = 15.0
RECONNECT_DELAY_S_MIN, RECONNECT_DELAY_S_MAX = 0.05, 2.0
CHANNELS_PER_COMMAND = 500


class _Subscription:
    """The subscription to one channel: its number of subscribers, and whether Redis has confirmed it."""

    __slots__ = ("confirmed", "count")

    def __init__(self) -> None:
        self.count = 0
        self.confirmed = asyncio.Event()


class RedisPubSub(RedisPart):
    """`PubSub` in Redis."""

    def __init__(self, client: RedisClient) -> None:
        super().__init__(client)
        self._prefix = client.channels.encode()
        self._subscriptions: dict[bytes, _Subscription] = {}
        self._pending: list[tuple[str, bytes]] = []
        self._wake = asyncio.Event()

    async def publish(self, channel: str, payload: bytes) -> None:
        """See `PubSub`."""
        await self._client.command("PUBLISH", self._prefix + encode_text(channel), payload, repeatable=False)

    async def subscribe(self, channel: str) -> None:
        """See `PubSub`. Raises `StoreError` if Redis doesn't confirm the subscription in time."""
        name = encode_text(channel)
        subscription = self._subscriptions.get(name)
        if subscription is None:
            subscription = self._subscriptions[name] = _Subscription()
            self._send("SUBSCRIBE", name)
        subscription.count += 1
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await subscription.confirmed.wait()
        except BaseException as error:
            self._drop_subscription(name, subscription)
            if isinstance(error, TimeoutError):
                raise StoreError(UNREACHABLE) from error
            raise

    async def unsubscribe(self, channel: str) -> None:
        """See `PubSub`."""
        name = encode_text(channel)
        if (subscription := self._subscriptions.get(name)) is not None:
            self._drop_subscription(name, subscription)

    def _drop_subscription(self, name: bytes, subscription: _Subscription) -> None:
        subscription.count -= 1
        if subscription.count <= 0 and self._subscriptions.get(name) is subscription:
            del self._subscriptions[name]
            subscription.confirmed.set()  # wake subscribers that still wait; none is counted any more
            self._send("UNSUBSCRIBE", name)

    def _send(self, command: str, name: bytes) -> None:
        self._pending.append((command, name))
        self._wake.set()

    async def run_pubsub(self, deliver: Deliver, on_reconnect: Callable[[], None]) -> None:
        """See `PubSub`."""
        on_complete: Callable[[], None] | None = None
        delay_s = RECONNECT_DELAY_S_MIN
        while True:
            listener = _Listener(self, deliver, on_complete)
            is_demoted = False
            try:
                # Over RESP 2, a connection with subscriptions can't send the HELLO that returns the server's role.
                await listener.run(self._client.connection(protocol=3))
            except (RedisError, OSError) as error:
                is_demoted = isinstance(error, ReadOnlyError)
                if (task := asyncio.current_task()) and task.cancelling():
                    # A connection that is lost during a cancellation replaces the cancellation with its own error.
                    raise asyncio.CancelledError from None
            finally:
                for subscription in self._subscriptions.values():
                    subscription.confirmed.clear()
            if listener.is_complete:
                on_complete = on_reconnect
            if is_demoted:
                await self._client.drop_idle()
            elif listener.is_complete:
                delay_s = RECONNECT_DELAY_S_MIN
            await asyncio.sleep(random.uniform(0.5, 1) * delay_s)
            delay_s = min(2 * delay_s, RECONNECT_DELAY_S_MAX)

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


class _Listener:
    """The listener on one connection.

    `is_complete`: every channel that had a subscription when the connection opened is confirmed.
    """

    def __init__(self, pubsub: RedisPubSub, deliver: Deliver, on_complete: Callable[[], None] | None) -> None:
        self._pubsub = pubsub
        self._deliver = deliver
        self._on_complete = on_complete
        self._unconfirmed: Counter[bytes] = Counter()
        self._missing: set[bytes] = set()
        self._early: list[tuple[str, bytes]] = []
        self.is_complete = False

    async def run(self, connection: AbstractConnection) -> None:
        """Listen until the connection is lost or silent for too long, and raise the error.

        Raises `ReadOnlyError` when the server says that it is a replica.
        """
        pubsub = self._pubsub
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await connect(connection)
            parser: Any = connection._parser
            parser.set_pubsub_push_handler(_pass)
            self._missing = set(pubsub._subscriptions)
            pubsub._pending = [("SUBSCRIBE", name) for name in pubsub._subscriptions]
            pubsub._wake.set()
            if not self._missing:
                self._complete()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(connection))
                await self._read(connection)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            await connection.disconnect(nowait=True)

    async def _write(self, connection: AbstractConnection) -> None:
        pubsub = self._pubsub
        loop = asyncio.get_running_loop()
        ping_at = loop.time() + PING_INTERVAL_S
        while True:
            try:
                async with asyncio.timeout_at(ping_at):
                    await pubsub._wake.wait()
            except TimeoutError:
                await connection.send_command("HELLO", check_health=False)
                ping_at = loop.time() + PING_INTERVAL_S
                continue
            pubsub._wake.clear()
            pending, pubsub._pending = pubsub._pending, []
            for command, names in _batches(pending):
                if command == "SUBSCRIBE":
                    self._unconfirmed.update(names)
                await connection.send_command(command, *(pubsub._prefix + name for name in names), check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        pubsub = self._pubsub
        skip = len(pubsub._prefix)
        while True:
            reply: Any = await connection.read_response(timeout=READ_TIMEOUT_S, push_request=True)
            if reply is None:
                raise RedisConnectionError("no answer to pings")
            if isinstance(reply, dict):  # the answer to HELLO
                if reply[b"role"] == b"replica":
                    raise ReadOnlyError("the server is a replica")
                continue
            kind = reply[0]
            if kind == b"message":
                name = reply[1][skip:]
                if name in pubsub._subscriptions:
                    self._deliver_message(name, reply[2])
            elif kind == b"subscribe":
                self._confirm(reply[1][skip:])

    def _deliver_message(self, name: bytes, payload: bytes) -> None:
        channel = name.decode("utf-8", "surrogatepass")
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
        if name in self._pubsub._subscriptions:
            self._pubsub._subscriptions[name].confirmed.set()
        self._missing.discard(name)
        if not self._missing and not self.is_complete:
            self._complete()

    def _complete(self) -> None:
        self.is_complete = True
        if self._on_complete is not None:
            self._on_complete()
        for channel, payload in self._early:
            self._deliver(channel, payload)
        self._early.clear()


async def _pass(message: Any) -> Any:
    """Return a pushed message; redis-py's own handler formats each one for its log, whether it logs or not."""
    return message


def _batches(pending: list[tuple[str, bytes]]) -> list[tuple[str, list[bytes]]]:
    """Merge neighboring commands of one kind, up to `CHANNELS_PER_COMMAND` channels."""
    batches: list[tuple[str, list[bytes]]] = []
    for command, name in pending:
        if batches and batches[-1][0] == command and len(batches[-1][1]) < CHANNELS_PER_COMMAND:
            batches[-1][1].append(name)
        else:
            batches.append((command, [name]))
    return batches
