"""Lists of the gateway that come in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

FetchPage = Callable[[str | None], Awaitable[tuple[list[Item], str | None]]]
"""Gets the page before a place (None: the first one). Returns its items, and the place of the next page."""


class Pages(Generic[Item]):
    """An async iterable of items. A page is requested when its first item is needed."""

    def __init__(self, fetch: FetchPage[Item], *, newest_first: bool = True) -> None:
        self._fetch = fetch
        self._newest_first = newest_first

    async def __aiter__(self) -> AsyncIterator[Item]:
        async for page in self.pages():
            for item in page:
                yield item

    async def pages(self) -> AsyncIterator[list[Item]]:
        """Iterate the pages themselves."""
        before: str | None = None
        while True:
            items, before = await self._fetch(before)
            yield items
            if before is None:
                return

    async def all(self) -> list[Item]:
        """Return all items: conversations as they are iterated, messages from the oldest to the newest."""
        items = [item async for item in self]
        return items if self._newest_first else items[::-1]
