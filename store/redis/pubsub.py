"""Signals over Redis' pub/sub: one connection per process for all channels that the process subscribes to.

Subscribers only change a count and wait; only the listener reads and writes, so that a cancelled subscriber can't
cut a command in two. A lost connection is replaced, and reported only when every channel is subscribed again.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError

from store.api import Deliver
from store.records import StoreError
from store.redis.client import CALL_TIMEOUT_S, ClientHolder, RedisClient, connect
from store.redis.keys import raw

PING_S = 5.0
SILENCE_S = 15.0
RECONNECT_S = (0.05, 2.0)
CHANNELS_PER_COMMAND = 500


class _Subscription:
    """A channel with its number of subscribers, and whether Redis has confirmed the subscription."""

    __slots__ = ("count", "heard")

    def __init__(self) -> None:
        self.count = 0
        self.heard = asyncio.Event()


class RedisPubSub(ClientHolder):
    """The part of the Redis store that sends signals between instances."""

    def __init__(self, link: RedisClient) -> None:
        super().__init__(link)
        self._prefix = link.channels.encode()
        self._followed: dict[bytes, _Subscription] = {}
        self._pending: list[tuple[str, bytes]] = []
        self._wake = asyncio.Event()

    async def publish(self, channel: str, payload: bytes) -> None:
        """See `Store`."""
        await self._client.command("PUBLISH", self._prefix + raw(channel), payload, repeatable=False)

    async def subscribe(self, channel: str) -> None:
        """See `Store`. Raises `StoreError` if Redis doesn't confirm the subscription in time."""
        name = raw(channel)
        followed = self._followed.get(name)
        if followed is None:
            followed = self._followed[name] = _Subscription()
            self._send("SUBSCRIBE", name)
        followed.count += 1
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await followed.heard.wait()
        except BaseException as error:
            self._drop_subscription(name, followed)
            if isinstance(error, TimeoutError):
                raise StoreError("The store can't be reached.") from error
            raise

    async def unsubscribe(self, channel: str) -> None:
        """See `Store`."""
        followed = self._followed.get(raw(channel))
        if followed is not None:
            self._drop_subscription(raw(channel), followed)

    def _drop_subscription(self, name: bytes, followed: _Subscription) -> None:
        followed.count -= 1
        if followed.count <= 0 and self._followed.get(name) is followed:
            del self._followed[name]
            followed.heard.set()  # wake subscribers that still wait; none is counted any more
            self._send("UNSUBSCRIBE", name)

    def _send(self, command: str, name: bytes) -> None:
        self._pending.append((command, name))
        self._wake.set()

    async def run_pubsub(self, deliver: Deliver, on_reconnect: Callable[[], None]) -> None:
        """See `Store`."""
        lost: Callable[[], None] | None = None
        delay_s = RECONNECT_S[0]
        while True:
            hearing = _Listener(self, deliver, lost)
            try:
                await hearing.run(self._client.connection())
            except (RedisError, OSError):
                if (task := asyncio.current_task()) and task.cancelling():
                    # A connection that is lost during a cancellation replaces the cancellation with its own error.
                    raise asyncio.CancelledError from None
            finally:
                for followed in self._followed.values():
                    followed.heard.clear()
            if hearing.complete:
                lost, delay_s = on_reconnect, RECONNECT_S[0]
            await asyncio.sleep(random.uniform(0.5, 1) * delay_s)
            delay_s = min(2 * delay_s, RECONNECT_S[1])


class _Listener:
    """The listener on one connection. `complete`: every channel that was subscribed at its start is confirmed."""

    def __init__(self, signals: RedisPubSub, deliver: Deliver, on_complete: Callable[[], None] | None) -> None:
        self._signals = signals
        self._deliver = deliver
        self._on_complete = on_complete
        self._unconfirmed: Counter[bytes] = Counter()
        self._missing = set(signals._followed)
        self._early: list[tuple[str, bytes]] = []
        self.complete = False

    async def run(self, connection: AbstractConnection) -> None:
        """Listen until the connection is lost or silent for too long, and raise the error."""
        signals = self._signals
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await connect(connection)
            signals._pending = [("SUBSCRIBE", name) for name in signals._followed]
            signals._wake.set()
            if not self._missing:
                self._completed()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(connection))
                await self._read(connection)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            await connection.disconnect(nowait=True)

    async def _write(self, connection: AbstractConnection) -> None:
        signals = self._signals
        while True:
            try:
                async with asyncio.timeout(PING_S):
                    await signals._wake.wait()
            except TimeoutError:
                await connection.send_command("PING", check_health=False)
                continue
            signals._wake.clear()
            pending, signals._pending = signals._pending, []
            for command, names in _batches(pending):
                if command == "SUBSCRIBE":
                    self._unconfirmed.update(names)
                await connection.send_command(command, *(signals._prefix + name for name in names), check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        signals = self._signals
        skip = len(signals._prefix)
        while True:
            reply: Any = await connection.read_response(timeout=SILENCE_S)
            if reply is None:
                raise ConnectionLost("silent for too long, though pings were sent")
            kind = reply[0]
            if kind == b"message":
                name = reply[1][skip:]
                if name in signals._followed:
                    self._deliver_message(name, reply[2])
            elif kind == b"subscribe":
                self._confirm(reply[1][skip:])

    def _deliver_message(self, name: bytes, payload: bytes) -> None:
        channel = name.decode("utf-8", "surrogatepass")
        if self.complete:
            self._deliver(channel, payload)
        else:
            self._early.append((channel, payload))

    def _confirm(self, name: bytes) -> None:
        """Handle the confirmation of a SUBSCRIBE of `name`; ignore it if a later one is still unconfirmed."""
        self._unconfirmed[name] -= 1
        if self._unconfirmed[name] > 0:
            return
        del self._unconfirmed[name]
        if name in self._signals._followed:
            self._signals._followed[name].heard.set()
        self._missing.discard(name)
        if not self._missing and not self.complete:
            self._completed()

    def _completed(self) -> None:
        self.complete = True
        if self._on_complete is not None:
            self._on_complete()
        for channel, payload in self._early:
            self._deliver(channel, payload)
        self._early.clear()


def _batches(pending: list[tuple[str, bytes]]) -> list[tuple[str, list[bytes]]]:
    """Merge neighboring commands of one kind, up to `CHANNELS_PER_COMMAND` channels."""
    batches: list[tuple[str, list[bytes]]] = []
    for command, name in pending:
        if batches and batches[-1][0] == command and len(batches[-1][1]) < CHANNELS_PER_COMMAND:
            batches[-1][1].append(name)
        else:
            batches.append((command, [name]))
    return batches
