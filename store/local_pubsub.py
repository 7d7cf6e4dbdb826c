"""Pub/sub within one process: channels, their one listener, and the presence of instances on turns."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from store.api import Deliver, list_channel, turn_channel
from store.records import Append, LogEntry

Publication = tuple[str, bytes]
"""A channel and the payload to publish on it."""


def entry_publication(new: Append) -> Publication:
    """Return the publication of a new log entry on its turn's channel."""
    entry = LogEntry(new.epoch, new.first, new.last, new.payload)
    return turn_channel(new.user, new.turn), msgspec.msgpack.encode(entry)


def list_publication(user: str, conversation: str) -> Publication:
    """Return the publication of a change of the conversation on the channel of its user's list."""
    return list_channel(user), conversation.encode()


class LocalPubSub:
    """`PubSub` for a store that only one process uses; all of it runs in the event loop."""

    def __init__(self) -> None:
        self._subscribers: Counter[str] = Counter()
        self._deliver: Deliver | None = None
        self._presence: dict[tuple[str, str], dict[str, float]] = {}

    async def run_pubsub(self, deliver: Deliver, on_reconnect: Callable[[], None]) -> None:
        """See `PubSub`. There is no connection, so `on_reconnect` is never called."""
        assert self._deliver is None, "a process has one listener"
        self._deliver = deliver
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._deliver = None

    async def subscribe(self, channel: str) -> None:
        """See `PubSub`."""
        self._subscribers[channel] += 1
        # Let a listener whose task was just started run before anything is published.
        await asyncio.sleep(0)

    async def unsubscribe(self, channel: str) -> None:
        """See `PubSub`."""
        self._subscribers[channel] -= 1
        if self._subscribers[channel] <= 0:
            del self._subscribers[channel]

    async def publish(self, channel: str, payload: bytes) -> None:
        """See `PubSub`."""
        self._publish([(channel, payload)])

    def _publish(self, publications: Iterable[Publication]) -> None:
        if self._deliver is not None:
            for channel, payload in publications:
                if channel in self._subscribers:
                    self._deliver(channel, payload)

    def _publish_entries(self, written: Iterable[Append]) -> None:
        """Publish new log entries.

        Only an entry whose channel has a subscriber is encoded; within one process, hardly any channel has one.
        """
        subscribed = self._subscribers
        self._publish(entry_publication(new) for new in written if turn_channel(new.user, new.turn) in subscribed)

    async def renew_presence(self, instance: str, turns: list[tuple[str, str]], ttl_ms: int) -> None:
        """See `PubSub`."""
        now_s = time.monotonic()
        unexpired = {
            turn: {name: until_s for name, until_s in instances.items() if until_s > now_s}
            for turn, instances in self._presence.items()
        }
        self._presence = {turn: instances for turn, instances in unexpired.items() if instances}
        for turn in turns:
            self._presence.setdefault(turn, {})[instance] = now_s + ttl_ms / 1000

    async def has_other_presence(self, user: str, turn: str, instance: str) -> bool:
        """See `PubSub`."""
        now_s = time.monotonic()
        instances = self._presence.get((user, turn), {})
        return any(until_s > now_s for name, until_s in instances.items() if name != instance)
