"""The queue between a turn's events and the reader that iterates them.

If the reader is slow or absent, adjacent deltas of one part are merged, as the gateway merges them (law 1). This keeps
the queue short and loses no text.
"""

from __future__ import annotations

import asyncio
from collections import deque
from io import StringIO

from turnwire.client.errors import TurnwireError
from turnwire.client.events import TurnDelta, TurnEvent
from turnwire.client.lifetime import settle


class EventQueue:
    """Events of one turn, for one reader."""

    def __init__(self) -> None:
        self._items: deque[TurnEvent | _Merged] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    def push(self, event: TurnEvent) -> None:
        """Add an event."""
        items = self._items
        if items and type(event) is TurnDelta and _is_text(event):
            last = items[-1]
            if type(last) is TurnDelta and last.part == event.part and _is_text(last):
                last = items[-1] = _Merged(last)
            if type(last) is _Merged and last.first.part == event.part:
                last.add(event)
                return
        items.append(event)
        self._wake()

    def close(self) -> None:
        """End the iteration after the events that wait."""
        self._closed = True
        self._wake()

    @property
    def must_wait(self) -> bool:
        """Whether the reader has to wait for the next event."""
        return not self._items and not self._closed

    async def next(self) -> TurnEvent:
        """Return the next event. Raise `StopAsyncIteration` after the last one."""
        while not self._items:
            if self._closed:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise TurnwireError(
                    "The turn's events are read by another task already. Read them once, and hand them on.",
                    code="already_read",
                )
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        item = self._items.popleft()
        return item.joined() if type(item) is _Merged else item  # type: ignore[return-value]

    def _wake(self) -> None:
        if self._waiter is not None:
            settle(self._waiter, None)


class _Merged:
    """Adjacent deltas of one part. Adding one takes time in proportion to its text alone."""

    __slots__ = ("_last", "_text", "first")

    def __init__(self, first: TurnDelta) -> None:
        self.first = self._last = first
        self._text = StringIO()
        self._text.write(first.text or "")

    def add(self, delta: TurnDelta) -> None:
        self._last = delta
        self._text.write(delta.text or "")

    def joined(self) -> TurnDelta:
        first, last = self.first, self._last
        after = first.after if first.after is not None or first.seq is None else first.seq - 1
        return TurnDelta(
            user=last.user, turn=last.turn, seq=last.seq, part=last.part, text=self._text.getvalue(), after=after
        )


def _is_text(delta: TurnDelta) -> bool:
    return delta.text is not None and delta.signature is None
