"""Rate limits in the embedded store: kept in memory, because no other process counts requests."""

from __future__ import annotations

import time


class SqliteRates:
    """The rate limits of `Store`."""

    def __init__(self) -> None:
        self._due_us: dict[str, int] = {}

    async def count_requests(self, taken: list[tuple[str, int, int]], interval_us: int) -> list[int]:
        """See `Store`."""
        now_us = time.monotonic_ns() // 1000
        self._due_us = {user: due_us for user, due_us in self._due_us.items() if due_us > now_us}
        for user, count, ago_us in taken:
            self._due_us[user] = max(self._due_us.get(user, 0), now_us - ago_us) + count * interval_us
        return [self._due_us[user] - now_us for user, _, _ in taken]
