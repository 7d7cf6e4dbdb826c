"""Connection permits in the embedded store: kept in memory, because no other process has connections."""

from __future__ import annotations

import time


class SqlitePermits:
    """The connection permits of `Store`."""

    def __init__(self) -> None:
        self._until: dict[str, dict[str, float]] = {}

    async def acquire_permits(self, holder: str, places: list[tuple[str, int]], ttl_ms: int) -> list[bool]:
        """See `Store`."""
        return [self._take(holder, key, most, ttl_ms) for key, most in places]

    def _take(self, holder: str, key: str, most: int, ttl_ms: int) -> bool:
        now = time.monotonic()
        living = {other: until for other, until in self._until.get(key, {}).items() if until > now}
        free = holder in living or len(living) < most
        if free:
            living[holder] = now + ttl_ms / 1000
        self._until[key] = living
        return free

    async def renew_permits(self, held: list[tuple[str, str]], ttl_ms: int) -> None:
        """See `Store`."""
        until = time.monotonic() + ttl_ms / 1000
        for key, holder in held:
            self._until.setdefault(key, {})[holder] = until

    async def release_permits(self, held: list[tuple[str, str]]) -> None:
        """See `Store`."""
        for key, holder in held:
            holders = self._until.get(key, {})
            holders.pop(holder, None)
            if not holders:
                self._until.pop(key, None)
