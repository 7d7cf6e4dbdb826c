"""Access to the archive for the calls of a store: they wait until the archive has the user's changes, or do without it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from store.archive.api import Archive, ArchiveError
from store.archive.drain import Drain
from store.archive.restorer import Restorer
from store.errors import Limited, NotFound, StoreError
from store.redis.store import RedisStore

BACKFILLED_USERS_MAX = 20_000
SETTLE_S = 5.0
BACKLOG_MAX = 20_000
"""A call doesn't wait for an outbox with more entries than that: the archive doesn't take them in `SETTLE_S`."""
STORED_LIMITS = frozenset({"conversations", "stored_bytes"})

T = TypeVar("T")


class ArchiveAccess:
    """The base of `ArchivedStore`: Redis, the archive, the drain between them, and the waits for it."""

    def __init__(self, hot: RedisStore, archive: Archive) -> None:
        self._hot = hot
        self._archive = archive
        self._drain = Drain(hot, archive)
        self._backfilled: OrderedDict[str, None] = OrderedDict()
        self._restorer = Restorer(hot, archive, self._drain)

    async def _changed(self, user: str, *, wait: bool = False) -> None:
        """Drain the user's outbox soon or, with `wait`, before this returns. Raises `StoreError`."""
        if wait:
            await self._settle(user)
        else:
            self._drain.note(user)

    async def _settle(self, user: str) -> None:
        await self._in_time(self._drain.settle(user))

    async def _in_time(self, settling: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(SETTLE_S):
                await settling
        except TimeoutError as error:
            raise ArchiveError("The archive didn't take the changes in time. Try again in a moment.") from error

    async def _catch_up(self, user: str) -> None:
        """Drain the user's outbox, if there is something in it.

        Raises `ArchiveError` at once while the archive is away, and if there is too much to wait for.
        """
        self._restorer.check_reachable()
        (state,) = await self._hot.outbox_states([user])
        if state.entries > BACKLOG_MAX:
            self._drain.note(user)
            raise ArchiveError("The archive is still taking earlier changes. Try again in a minute.")
        if state.entries:
            await self._settle(user)

    async def _from_archive(
        self, user: str, read: Callable[[], Awaitable[T]], read_hot: Callable[[], Awaitable[T]] | None
    ) -> T:
        """Return what `read` returns after the user's outbox was drained, or, while the archive is away, what `read_hot` returns.

        Without `read_hot`, raise the `ArchiveError` then. What Redis doesn't have may be in the archive, so `NotFound` of
        `read_hot` isn't an answer.
        """
        try:
            await self._backfill(user)
            await self._catch_up(user)
            return await read()
        except ArchiveError as error:
            if read_hot is None:
                raise
            try:
                return await read_hot()
            except NotFound:
                raise error from None

    async def _backfill(self, user: str) -> None:
        """At the user's first call, mark for the archive what Redis stored before it was set up."""
        if user not in self._backfilled:
            await self._hot.backfill_outbox(user)
            self._backfilled[user] = None
            if len(self._backfilled) > BACKFILLED_USERS_MAX:
                self._backfilled.popitem(last=False)

    async def _with_limits(self, user: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `call`. If the user's storage is full, drain the outbox and try again.

        Redis has the archive's sums from when the outbox was last empty, so they may include what was deleted since.
        """
        try:
            return await call()
        except Limited as error:
            if error.limit not in STORED_LIMITS or self._drain.state.is_degraded:
                raise
            try:
                await self._settle(user)
            except StoreError:
                raise error from None
        return await call()
