"""Who comes to the store when: a few requests at a time, from the users in rotation, so that a flood is its author's alone.

What a turn that runs needs (its log, its lease, its ending) doesn't wait here.
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
"""A shared store has twice as many connections; an embedded one has one thread, and the next work shall wait there."""

WAITING_MAX = 1024
"""Calls of one user; more than a well-behaved client's connections have requests in flight."""

QUEUED = frozenset(
    """accept turn running log active running_groups request_cancel message branch messages create_conversation conversation
    conversations update_conversation clear_conversation delete_conversation put_feedback usage""".split()
)
"""The calls whose first argument is the user, or a record of the user's."""


class TooManyWaiting(StoreError):
    """Too many calls of this user wait already."""


class FairQueue:
    """Work of many users, `slots` at a time. A slot that falls free goes to the next user in rotation, for the oldest of
    that user's work. At most `waiting_max` of one user's may wait; 0: any number.
    """

    def __init__(self, slots: int, waiting_max: int) -> None:
        self._free = slots
        self._waiting_max = waiting_max
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}

    async def enter(self, user: str) -> None:
        """Wait for a slot; `leave` it. Raises `TooManyWaiting`."""
        if self._free:
            self._free -= 1  # a free slot means that nobody waits
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
                self.leave()
            raise

    def leave(self) -> None:
        """The slot goes to the next in rotation who still waits."""
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
            setattr(self, name, found)  # found there from now on
        return found


def fair(store: Store, waiting_max: int) -> Store:
    """The same store, which users come to in turn. Methods raise `TooManyWaiting` too."""
    return cast("Store", _Fair(store, FairQueue(SLOTS_SHARED if store.shared else SLOTS_EMBEDDED, waiting_max)))


def _queued(call: Callable[..., Awaitable[Any]], queue: FairQueue) -> Callable[..., Awaitable[Any]]:
    async def queued(whose: Any, *args: Any, **fields: Any) -> Any:
        await queue.enter(whose if isinstance(whose, str) else whose.user)
        try:
            return await call(whose, *args, **fields)
        finally:
            queue.leave()

    return queued
