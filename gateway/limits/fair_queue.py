"""A fair queue in front of the store: a few calls at a time, from the users in rotation.

A flood of calls delays only the user that makes it. The calls that write a running turn's log, lease and ending don't
wait here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from gateway.store_wrapper import Call, wrap_calls
from store.api import Store
from store.archive.api import Archive
from store.errors import StoreError

SHARED_SLOTS, EMBEDDED_SLOTS = 8, 2
"""The slots for a shared and for an embedded store.

A shared store has twice as many connections. An embedded store runs these calls in one thread; the second slot lets
the next call wait at that thread.
"""

WAITERS_MAX = 1024
"""The most calls of one user that may wait.

It is more than the requests that a well-behaved client's connections have in flight.
"""

QUEUED_CALLS = frozenset(
    """accept turn running log active running_groups request_cancel message branch messages
    create_conversation conversation conversations update_conversation clear_conversation
    delete_conversation put_feedback usage""".split()
)
"""The calls that are queued. The first argument of each is the user, or a record that has a `user`."""
HOT_CALLS = frozenset({"accept_or_look", "create_or_look", "hot_messages", "hot_branch"})
"""The calls that a store with an archive makes instead of some of these; see `ArchivedStore`."""
ARCHIVE_CALLS = frozenset("conversation message newest messages branch conversations search usage usage_days".split())
"""The calls of an archive that are queued. The first argument of each is the user."""
ARCHIVE_SLOTS = 6
SLOW_CALLS = frozenset({"search", "usage_days"})
"""The calls of a store that may take long. They are in a second queue, so that quick calls don't wait for slow ones.

The calls of an archive are all in one queue.
"""
SLOW_SLOTS = 2


class QueueFull(StoreError):
    """Too many calls of this user are waiting already."""


class FairQueue:
    """A queue of many users' calls, of which `slots` run at a time.

    A free slot goes to the next user in rotation, for that user's oldest call. At most `waiters_max` calls of one
    user may wait; 0 means no limit.
    """

    def __init__(self, slots: int, waiters_max: int) -> None:
        self._free = slots
        self._waiters_max = waiters_max
        self._waiters: dict[str, deque[asyncio.Future[None]]] = {}

    async def acquire(self, user: str) -> None:
        """Wait for a slot; release it with `release`.

        Raise `QueueFull` if too many calls of the user are waiting.
        """
        if self._free:
            self._free -= 1  # no call waits while a slot is free
            return
        waiters = self._waiters.setdefault(user, deque())
        if 0 < self._waiters_max <= len(waiters):
            raise QueueFull("Too many calls of one user are waiting for the store.")
        waiter = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Pass the slot to the next call in rotation that still waits, or free it."""
        while self._waiters:
            user = next(iter(self._waiters))
            waiters = self._waiters.pop(user)
            waiter = waiters.popleft()
            if waiters:
                self._waiters[user] = waiters
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1


def queue_calls(store: Store, waiters_max: int) -> Store:
    """Return a wrapper of `store` that queues its calls fairly by user.

    At most `waiters_max` calls of one user may wait; 0 means no limit. The queued methods also raise `QueueFull`.
    """
    usual = FairQueue(SHARED_SLOTS if store.shared else EMBEDDED_SLOTS, waiters_max)
    slow = FairQueue(SLOW_SLOTS, waiters_max)
    return wrap_calls(
        store, _queueing(dict.fromkeys(QUEUED_CALLS | HOT_CALLS, usual) | dict.fromkeys(SLOW_CALLS, slow))
    )


def queue_archive_calls(archive: Archive, waiters_max: int) -> Archive:
    """Return a wrapper of `archive` that queues the calls in `ARCHIVE_CALLS` fairly by user; see `queue_calls`."""
    queue = FairQueue(ARCHIVE_SLOTS, waiters_max)
    return cast("Archive", wrap_calls(cast("Store", archive), _queueing(dict.fromkeys(ARCHIVE_CALLS, queue))))


def _queueing(queues: dict[str, FairQueue]) -> Callable[[str, Call], Call]:
    """Return a function that wraps a call so that it waits in the queue that `queues` has for its name."""

    def wrap(name: str, call: Call) -> Call:
        queue = queues.get(name)
        if queue is None:
            return call

        async def queued(user_or_record: Any, *args: Any, **fields: Any) -> Any:
            await queue.acquire(user_or_record if isinstance(user_or_record, str) else user_or_record.user)
            try:
                return await call(user_or_record, *args, **fields)
            finally:
                queue.release()

        return queued

    return wrap
