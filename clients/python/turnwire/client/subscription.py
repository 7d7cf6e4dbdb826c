"""A queue with one reader, as an async iterator."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from turnwire.client.lifetime import settle

Item = TypeVar("Item")

ITEMS_MAX = 1_000
"""If the reader is slow, the oldest items are dropped beyond this number."""


class Subscription(Generic[Item]):
    """Gives items as they come, until the connection is closed. If it isn't read, it keeps the newest 1,000."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque(maxlen=ITEMS_MAX)
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self.keeps: object = None
        """What must not be forgotten while this is read."""

    def __aiter__(self) -> Subscription[Item]:
        return self

    async def __anext__(self) -> Item:
        while not self._items:
            if self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.popleft()

    def put(self, item: Item) -> None:
        """Add an item."""
        if not self._closed:
            self._items.append(item)
            self._wake()

    def close(self) -> None:
        """End the iteration after the items that wait."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None:
            settle(self._waiter, None)
