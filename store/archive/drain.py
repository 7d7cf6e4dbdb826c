"""The background task that moves what is in the outboxes to the archive.

Users whose history this instance has changed are drained at once, many in one transaction. `sweep.py` finds the
users of instances that have died. While the archive fails, the outboxes keep everything, and the drain tries again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

import structlog

from store.api import user_hash
from store.archive.api import Archive, ArchiveError
from store.archive.outboxes import Outboxes
from store.archive.records import Applied
from store.archive.state import DrainState
from store.archive.sweep import Sweep
from store.errors import Damaged, StoreError
from store.redis.outbox import OutboxRead

log = structlog.stdlib.get_logger("turnwire.archive")

COALESCE_S = 0.5
"""The time from a change to the transaction that archives it, if no call waits for it."""
LATER_S = 1.0
"""The time until a change is drained if it can wait for the next one, as a turn's start waits for its ending."""
USERS_PER_TRANSACTION = 32
RETRY_S_MIN, RETRY_S_MAX = 0.1, 2.0
UNFIT_RETRY_S_MAX = 10.0
"""The longest time between two attempts while an operator has to change something at the database."""
STALE_DELAY_S = 0.05
CLOSE_S = 5.0

UNREADABLE = "its data in Redis can't be read"
CLOSED = "The archive is closed. Start the gateway again."


class _Waiter:
    """A call that waits until the change `until` is archived: the outbox's last one when it was first read for this call."""

    __slots__ = ("future", "until")

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future
        self.until: int | None = None

    def fail(self, error: Exception) -> None:
        """End the wait with an error."""
        if not self.future.done():
            self.future.set_exception(error)


class Drain:
    """The drain of one instance. Call `start` and later `close`."""

    def __init__(self, outboxes: Outboxes, archive: Archive) -> None:
        self._outboxes = outboxes
        self._archive = archive
        self.state = DrainState()
        self._dirty: dict[str, None] = {}
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._waiters: dict[str, list[_Waiter]] = defaultdict(list)
        self._stale: dict[str, int] = {}
        self._damaged: set[str] = set()
        self._wake = asyncio.Event()
        self._sweep = Sweep(outboxes, archive, self.state, self.note, self._wake)
        self._urgent = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self._asked: list[asyncio.Future[None]] = []
        self._is_asked = asyncio.Event()

    def start(self, unopened: ArchiveError | None = None) -> None:
        """Start the background tasks. `unopened`: why the archive isn't open yet; it is opened as soon as that is possible."""
        if unopened is not None:
            self.state.set_degraded(unopened)
            self._wake.set()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._sweep.run())]

    async def close(self) -> None:
        """Archive what this instance has changed, if that takes no more than `CLOSE_S`, and stop."""
        unsettled = {*self._dirty, *self._later}
        if self._tasks and unsettled and not self.state.is_degraded:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self.settle_users(list(unsettled))
        for timer in self._later.values():
            timer.cancel()
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail_waiters(list(self._waiters), StoreError(CLOSED))

    def note(self, user: str) -> None:
        """Drain the user's outbox soon."""
        if (timer := self._later.pop(user, None)) is not None:
            timer.cancel()
        self._dirty[user] = None
        self._wake.set()

    def note_later(self, user: str) -> None:
        """Drain the user's outbox with the user's next change, or after `LATER_S`."""
        if user not in self._dirty and user not in self._later:
            self._later[user] = asyncio.get_running_loop().call_later(LATER_S, self.note, user)

    async def settle(self, user: str) -> None:
        """Return when the archive has everything that is in the user's outbox now. Raises `StoreError`."""
        if self._closed:
            raise StoreError(CLOSED)
        waiter = _Waiter(asyncio.get_running_loop().create_future())
        self._waiters[user].append(waiter)
        self.note(user)
        self._urgent.set()
        await waiter.future

    async def attempt(self) -> None:
        """Return after the next attempt to write, and make it now instead of after a pause. `state` has its result."""
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        for event in (self._is_asked, self._wake, self._urgent):
            event.set()
        await asked

    async def settle_all(self) -> None:
        """Return when the archive has what is in the outboxes of all users now. Raises `StoreError`."""
        users = [user for user, _ in await self._outboxes.indexed_outboxes(0)]
        states = await self._outboxes.outbox_states(users) if users else []
        await self.settle_users([user for user, state in zip(users, states, strict=True) if state.entries])

    async def settle_users(self, users: Sequence[str]) -> None:
        """Return when the archive has what is in the outboxes of `users` now. Raises `StoreError`.

        It doesn't wait for outboxes that can't be read.
        """
        results = await asyncio.gather(*(self.settle(user) for user in users), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, Damaged):
                raise result

    async def _run(self) -> None:
        retry_s = RETRY_S_MIN
        while True:
            await self._wake.wait()
            if not self._urgent.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(COALESCE_S):
                        await self._urgent.wait()
            self._wake.clear()
            self._urgent.clear()
            self._is_asked.clear()
            asked, self._asked = self._asked, []
            users, waiters = self._take()
            try:
                if self.state.is_degraded:
                    await self._mark_all(users)
                    await self._archive.open()  # the database that is back may have another schema
                    await self._archive.ping()
                again = await self._pass(users, waiters)
                self.state.set_writable()
            except Exception as error:
                self._on_failure(users, waiters, error)
                _answer(asked)
                with suppress(TimeoutError):
                    async with asyncio.timeout(random.uniform(0.5, 1) * retry_s):
                        await self._is_asked.wait()
                retry_s = min(2 * retry_s, UNFIT_RETRY_S_MAX if self.state.is_unfit else RETRY_S_MAX)
                continue
            _answer(asked)
            retry_s = RETRY_S_MIN
            self._continue(waiters, again)

    def _take(self) -> tuple[list[str], dict[str, list[_Waiter]]]:
        """Take the users for the next transaction, first those that a call waits for, and the waiters."""
        waited = [user for user in self._waiters if user in self._dirty]
        users = [*waited, *(user for user in self._dirty if user not in self._waiters)][:USERS_PER_TRANSACTION]
        for user in users:
            self._dirty.pop(user, None)
        if self._dirty:
            self._wake.set()
            self._urgent.set()
        return users, {user: self._waiters.pop(user) for user in users if user in self._waiters}

    async def _pass(self, users: list[str], waiters: dict[str, list[_Waiter]]) -> set[str]:
        """Archive the oldest entries of each user's outbox. Return the users that may have more.

        End those waits of `waiters` that are over then.
        """
        began = time.monotonic()
        reads = await self._outboxes.read_outboxes(users)
        again = {read.batch.user for read in reads if read.more}
        self._report_damaged(reads, waiters)
        for read in reads:
            for waiter in waiters.get(read.batch.user, ()):
                # What isn't marked yet has no number that could be waited for.
                waiter.until = read.last if waiter.until is None and not read.unmarked else waiter.until
            if read.unreadable:
                await self._set_aside(read)
        await self._outboxes.mark_earlier([read.batch.user for read in reads if read.unmarked])
        batches = [read.batch for read in reads if read.batch.entries]
        if batches:
            results = await self._archive.apply(batches)
            self.state.set_writable()
            if gone := await self._outboxes.acknowledge(results):
                await self._erase_again(gone, began)
            await self._renumber_stale(results, waiters, again)
        for read in reads:
            archived = max((one.change for one in (*read.batch.entries, *read.unreadable)), default=0)
            waiting = waiters.get(read.batch.user, [])
            waiters[read.batch.user] = [waiter for waiter in waiting if not _is_over(waiter, archived, read.more)]
        return again

    async def _mark_all(self, users: list[str]) -> None:
        """Mark what isn't marked yet: it would expire while the archive is away."""
        left: Sequence[str] = users
        while left:
            left = await self._outboxes.mark_earlier(left)

    async def _erase_again(self, users: list[str], since: float) -> None:
        """Erase again those of `users` who were erased after `since`, the time before this instance read what it archived.

        The outboxes of `users` no longer had what was archived: the user was erased meanwhile, or another instance archived
        the same changes at the same time. An erasure before `since` is older than these changes, so it isn't repeated.
        """
        ages_ms = await self._outboxes.erased_ages_ms(users)
        passed_ms = (time.monotonic() - since) * 1000
        for user, age_ms in zip(users, ages_ms, strict=True):
            if age_ms is not None and age_ms <= passed_ms:
                log.info("a user was erased while changes were archived, erasing again", user_hash=user_hash(user))
                await self._archive.erase(user)

    async def _renumber_stale(self, results: list[Applied], waiters: dict[str, list[_Waiter]], again: set[str]) -> None:
        """Count the results, renumber entries whose numbers the archive takes for old ones, and add their users to `again`.

        Mostly another instance has archived these entries and is about to remove them. So they get new numbers only if
        the next pass, after a moment, finds them again.
        """
        is_first = False
        for applied in results:
            self.state.count(applied)
            user, stale_until = applied.user, applied.stale_until
            if stale_until is None:
                self._stale.pop(user, None)
                continue
            if self._stale.pop(user, None) is None:
                self._stale[user] = stale_until
                is_first = True
            else:
                log.info("entries of an outbox get new numbers", user=user, until=stale_until)
                with suppress(Damaged):
                    await self._outboxes.renumber(user, stale_until)
            again.add(user)
            for waiter in waiters.get(user, ()):
                waiter.until = None
        if is_first:
            await asyncio.sleep(random.uniform(0.5, 1) * STALE_DELAY_S)

    async def _set_aside(self, read: OutboxRead) -> None:
        """Set aside the entries that can't be read from Redis."""
        poisoned = tuple((entry, UNREADABLE) for entry in read.unreadable)
        await self._outboxes.set_aside(read.batch.user, poisoned)
        self.state.count(Applied(user=read.batch.user, done=(), poisoned=poisoned))

    def _report_damaged(self, reads: Sequence[OutboxRead], waiters: dict[str, list[_Waiter]]) -> None:
        """Log each outbox that can't be read at all, once, and end the waits for it. The sweep tries it again."""
        for read in reads:
            user = read.batch.user
            if read.damaged is None:
                self._damaged.discard(user)
                continue
            for waiter in waiters.pop(user, []):
                waiter.fail(read.damaged)
            if user not in self._damaged:
                self._damaged.add(user)
                log.error("an outbox can't be read; its user's changes aren't archived", user=user)

    def _continue(self, waiters: dict[str, list[_Waiter]], again: set[str]) -> None:
        """Continue with the users that may have more entries, and with those that a call still waits for."""
        for user, waiting in waiters.items():
            if waiting:
                self._waiters[user] = waiting + self._waiters.pop(user, [])
                again.add(user)
        for user in again:
            self.note(user)
        if again:
            self._urgent.set()

    def _on_failure(self, users: list[str], waiters: dict[str, list[_Waiter]], error: Exception) -> None:
        """Report the failure to the waiting calls, and keep the users for the next attempt."""
        if not isinstance(error, StoreError):
            log.exception("the archive's drain failed; trying again")
        if not isinstance(error, StoreError) or isinstance(error, ArchiveError):
            self.state.set_degraded(error)
        reported = error if isinstance(error, StoreError) else ArchiveError("The archive can't be written now.")
        for waiting in waiters.values():
            for waiter in waiting:
                waiter.fail(reported)
        if self.state.is_degraded:
            self._fail_waiters(list(self._waiters), reported)
        for user in users:
            self.note(user)

    def _fail_waiters(self, users: list[str], error: StoreError) -> None:
        for user in users:
            for waiter in self._waiters.pop(user, []):
                waiter.fail(error)


def _is_over(waiter: _Waiter, archived: int, more: bool) -> bool:
    """Return whether a wait is over, and if so, end it. The archive has everything up to the change `archived`."""
    if waiter.until is None or (more and waiter.until > archived):
        return False
    if not waiter.future.done():
        waiter.future.set_result(None)
    return True


def _answer(asked: Sequence[asyncio.Future[None]]) -> None:
    for one in asked:
        if not one.done():
            one.set_result(None)
