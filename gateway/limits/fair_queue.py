"""A fair queue in front of the store: a few calls at a time, from the users in rotation.

A flood of calls delays only the user that makes it. What a running turn needs (its log, its lease, its ending) doesn't
wait here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any, cast

from store.api import Store
from store.records import StoreError

SLOTS_SHARED, SLOTS_EMBEDDED = 8, 2
"""The slots for a shared and for an embedded store.

A shared store has twice as many connections. An embedded store has one thread; the second slot lets the next call wait
at that thread.
"""

WAITING_MAX = 1024
"""The most calls of one user that may wait.

It is more than the requests that a well-behaved client's connections have in flight.
"""

QUEUED = frozenset(
    """accept turn running log active running_groups request_cancel message branch messages create_conversation conversation
    conversations update_conversation clear_conversation delete_conversation put_feedback usage""".split()
)
"""The calls whose first argument is the user, or a record that has one."""


class TooManyWaiting(StoreError):
    """Too many calls of this user are waiting already."""


class FairQueue:
    """A queue of many users' calls, of which `slots` run at a time.

    A free slot goes to the next user in rotation, for that user's oldest call. At most `waiting_max` calls of one
    user may wait; 0 means no limit.
    """

    def __init__(self, slots: int, waiting_max: int) -> None:
        self._free = slots
        self._waiting_max = waiting_max
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}

    async def acquire(self, user: str) -> None:
        """Wait for a slot; release it with `release`.

        Raise `TooManyWaiting` if too many calls of the user are waiting.
        """
        if self._free:
            self._free -= 1  # no call waits while a slot is free
            return
        line = self._lines.setdefault(user, deque())
        if 0 < self._waiting_max <= len(line):
            raise TooManyWaiting("Too many calls of one user wait for the store.")
        place = asyncio.get_running_loop().create_future()
        line.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Pass the slot to the next call in rotation that still waits, or free it."""
        while self._lines:
            user = next(iter(self._lines))
            line = self._lines.pop(user)
            place = line.popleft()
            if line:
                self._lines[user] = line
            if not place.done():
                place.set_result(None)
                return
        self._free += 1


class _Fair:
    def __init__(self, store: Store, queue: FairQueue) -> None:
        self._store = store
        self._queue = queue

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name in QUEUED and iscoroutinefunction(found):
            found = _queued(found, self._queue)
            setattr(self, name, found)  # later lookups find it without __getattr__
        return found


def fair(store: Store, waiting_max: int) -> Store:
    """Return the same store with its calls queued fairly by user.

    At most `waiting_max` calls of one user may wait; 0 means no limit. The queued methods also raise `TooManyWaiting`.
    """
    return cast("Store", _Fair(store, FairQueue(SLOTS_SHARED if store.shared else SLOTS_EMBEDDED, waiting_max)))


def _queued(call: Callable[..., Awaitable[Any]], queue: FairQueue) -> Callable[..., Awaitable[Any]]:
    async def queued(whose: Any, *args: Any, **fields: Any) -> Any:
        await queue.acquire(whose if isinstance(whose, str) else whose.user)
        try:
            return await call(whose, *args, **fields)
        finally:
            queue.release()

    return queued
