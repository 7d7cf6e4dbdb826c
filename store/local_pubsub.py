"""Signals within one process: channels, their one listener, and the presence of instances on turns."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from store.api import Deliver, turn_channel
from store.records import Append, LogEntry

Signal = tuple[str, bytes]
"""A channel and the payload to publish on it."""


def entry_signal(new: Append) -> Signal:
    """Return the signal that tells a turn's channel of a new entry of its log."""
    entry = LogEntry(new.epoch, new.first, new.last, new.payload)
    return turn_channel(new.user, new.turn), msgspec.msgpack.encode(entry)


class LocalPubSub:
    """The signals of `Store` for a store that only one process uses; all of it runs in the event loop."""

    def __init__(self) -> None:
        self._followed: Counter[str] = Counter()
        self._deliver: Deliver | None = None
        self._touched: dict[tuple[str, str], dict[str, float]] = {}

    async def run_pubsub(self, deliver: Deliver, on_reconnect: Callable[[], None]) -> None:
        """See `Store`. There is no connection, so `on_reconnect` is never called."""
        assert self._deliver is None, "a process has one listener"
        self._deliver = deliver
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._deliver = None

    async def subscribe(self, channel: str) -> None:
        """See `Store`."""
        self._followed[channel] += 1
        # Let a listener whose task was just started run before anything is published.
        await asyncio.sleep(0)

    async def unsubscribe(self, channel: str) -> None:
        """See `Store`."""
        self._followed[channel] -= 1
        if self._followed[channel] <= 0:
            del self._followed[channel]

    async def publish(self, channel: str, payload: bytes) -> None:
        """See `Store`."""
        self._publish([(channel, payload)])

    def _publish(self, signals: Iterable[Signal]) -> None:
        if self._deliver is not None:
            for channel, payload in signals:
                if channel in self._followed:
                    self._deliver(channel, payload)

    def _publish_entries(self, written: Iterable[Append]) -> None:
        """Publish new log entries.

        Encode only entries whose channel has a subscriber; within one process nearly no channel has one.
        """
        followed = self._followed
        self._publish(entry_signal(new) for new in written if turn_channel(new.user, new.turn) in followed)

    async def renew_presence(self, instance: str, turns: list[tuple[str, str]], ttl_ms: int) -> None:
        """See `Store`."""
        now_s = time.monotonic()
        for turn, instances in list(self._touched.items()):
            alive = {name: until_s for name, until_s in instances.items() if until_s > now_s}
            if alive:
                self._touched[turn] = alive
            else:
                del self._touched[turn]
        for turn in turns:
            self._touched.setdefault(turn, {})[instance] = now_s + ttl_ms / 1000

    async def has_other_presence(self, user: str, turn: str, instance: str) -> bool:
        """See `Store`."""
        now_s = time.monotonic()
        instances = self._touched.get((user, turn), {})
        return any(until_s > now_s for name, until_s in instances.items() if name != instance)
