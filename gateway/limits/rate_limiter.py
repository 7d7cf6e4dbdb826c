"""A rate limit for each user: counted in this process immediately, and settled with the other instances through the store.

A request never waits for the store. A user that sends to several instances at the same moment gets a burst from each,
and then nothing until the excess is paid back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from math import ceil

from store.api import EphemeralStore
from store.errors import StoreError

SWEEP_AT_USERS = 1024
SETTLE_S = 0.1
DEBT_MAX_S = 10.0
ROUNDING_MS = 1e-6


class RateLimiter:
    """A bucket for each user that holds `burst` requests and refills by `per_s` a second (GCRA).

    If `settled` is false, requests are counted in this process only. `clock` returns seconds.
    """

    def __init__(
        self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic, *, settled: bool = True
    ) -> None:
        self._is_settled = settled
        self._interval_s = 1 / per_s
        self._burst_s = (burst - 1) * self._interval_s
        self._clock = clock
        self._due: dict[str, float] = {}
        """The time, by `clock`, at which each user's bucket is full again."""
        self._unsettled: dict[str, tuple[int, float]] = {}
        """The requests that the store hasn't counted yet: (how many, time of the first by `clock`) of each user."""
        self._sweep_at = SWEEP_AT_USERS

    def __len__(self) -> int:
        return len(self._due)

    def wait_ms(self, user: str) -> int:
        """Return in how many ms the user's next request is allowed; 0 means now."""
        now = self._clock()
        return max(0, ceil((self._due.get(user, now) - now - self._burst_s) * 1000 - ROUNDING_MS))

    def try_acquire(self, user: str) -> int:
        """Count a request if it is allowed now. Return the wait in ms; 0 means allowed."""
        wait_ms = self.wait_ms(user)
        if wait_ms == 0:
            self.charge(user, 1)
        return wait_ms

    def charge(self, user: str, count: float) -> None:
        """Count `count` requests that were let through, whether or not they were allowed.

        If the user's wait would then exceed `DEBT_MAX_S`, fewer requests are counted, but at least one.
        """
        now = self._clock()
        due = max(self._due.get(user, now), now)
        count = min(count, max(1, (now + self._burst_s + DEBT_MAX_S - due) // self._interval_s))
        self._due[user] = due + count * self._interval_s
        if self._is_settled:
            before, since = self._unsettled.get(user, (0, now))
            self._unsettled[user] = (before + int(count), since)
        if len(self._due) >= self._sweep_at:
            self._due = {other: then for other, then in self._due.items() if then > now}
            self._sweep_at = max(SWEEP_AT_USERS, 2 * len(self._due))

    def forget(self, user: str) -> None:
        """Forget the user's requests. Those of the last moment aren't settled with the store either."""
        self._due.pop(user, None)
        self._unsettled.pop(user, None)

    async def run(self, store: EphemeralStore, reachable: Callable[[], bool]) -> None:
        """Settle with the store periodically, until cancelled.

        `reachable` returns whether the store is expected to answer. While it isn't, each instance counts only its own
        requests.
        """
        while True:
            await asyncio.sleep(SETTLE_S)
            with suppress(StoreError):
                await self.settle(store if reachable() else None)

    async def settle(self, store: EphemeralStore | None) -> None:
        """Report the requests counted here to the store, and adopt what all instances have counted.

        If `store` is None or fails, these requests are never reported. Raise `StoreError` if it fails.
        """
        unsettled, self._unsettled = self._unsettled, {}
        if not unsettled or store is None:
            return
        began = self._clock()
        counts = [(user, count, int((began - since) * 1_000_000)) for user, (count, since) in unsettled.items()]
        ahead_us = await store.count_requests(counts, ceil(self._interval_s * 1_000_000))
        for user, ahead in zip(unsettled, ahead_us, strict=True):
            counted_since, _ = self._unsettled.get(user, (0, 0))
            due = began + ahead / 1_000_000 + counted_since * self._interval_s
            # A difference of less than half a request comes from the delay to the store, not from another instance.
            if due > self._due.get(user, began) + self._interval_s / 2:
                self._due[user] = due
