"""Ephemeral values, rate limits and connection permits in the SQLite store.

Ephemeral values are in the file and survive a restart, so they expire by wall-clock time. Rate limits
and permits are only in memory, because no other process counts requests or has connections.
"""

from __future__ import annotations

import sqlite3
import time

from store.api import user_permits
from store.sqlite.database import Database, SqlitePart
from store.sqlite.turns import clock_ms


class SqliteEphemeral(SqlitePart):
    """`EphemeralStore` in the SQLite store."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._due_us: dict[str, int] = {}
        """When each user's next request is due."""
        self._permits: dict[str, dict[str, float]] = {}
        """The holders of each key, with the time when their permit expires."""

    async def put_ephemeral(self, key: str, value: bytes, ttl_ms: int, user: str | None = None) -> bytes | None:
        """See `EphemeralStore`."""
        return await self._db.run(_put, key, value, ttl_ms, user)

    async def pop_ephemeral(self, key: str) -> bytes | None:
        """See `EphemeralStore`."""
        return await self._db.run(_pop, key)

    async def get_ephemeral(self, keys: list[str]) -> list[bytes | None]:
        """See `EphemeralStore`."""
        return await self._db.run(_get, keys)

    async def clock_ms(self) -> int:
        """See `EphemeralStore`."""
        return clock_ms()

    async def count_requests(self, counts: list[tuple[str, int, int]], interval_us: int) -> list[int]:
        """See `EphemeralStore`."""
        now_us = time.monotonic_ns() // 1000
        self._due_us = {user: due_us for user, due_us in self._due_us.items() if due_us > now_us}
        for user, count, ago_us in counts:
            self._due_us[user] = max(self._due_us.get(user, 0), now_us - ago_us) + count * interval_us
        return [self._due_us[user] - now_us for user, _, _ in counts]

    async def acquire_permits(self, holder: str, limits: list[tuple[str, int]], ttl_ms: int) -> list[bool]:
        """See `EphemeralStore`."""
        return [self._acquire_permit(holder, key, limit, ttl_ms) for key, limit in limits]

    def _acquire_permit(self, holder: str, key: str, limit: int, ttl_ms: int) -> bool:
        now_s = time.monotonic()
        holders = {other: until_s for other, until_s in self._permits.get(key, {}).items() if until_s > now_s}
        is_free = holder in holders or len(holders) < limit
        if is_free:
            holders[holder] = now_s + ttl_ms / 1000
        self._permits[key] = holders
        return is_free

    async def renew_permits(self, permits: list[tuple[str, str]], ttl_ms: int) -> None:
        """See `EphemeralStore`."""
        until_s = time.monotonic() + ttl_ms / 1000
        for key, holder in permits:
            self._permits.setdefault(key, {})[holder] = until_s

    async def release_permits(self, permits: list[tuple[str, str]]) -> None:
        """See `EphemeralStore`."""
        for key, holder in permits:
            holders = self._permits.get(key, {})
            holders.pop(holder, None)
            if not holders:
                self._permits.pop(key, None)

    def forget_limits(self, user: str) -> None:
        """Forget the user's rate limit and connection permits."""
        self._due_us.pop(user, None)
        self._permits.pop(user_permits(user), None)


def _put(db: sqlite3.Connection, key: str, value: bytes, ttl_ms: int, user: str | None) -> bytes | None:
    now_ms = clock_ms()
    db.execute("DELETE FROM notes WHERE until_ms <= ?", (now_ms,))
    (old,) = _get(db, [key])
    db.execute(
        "INSERT OR REPLACE INTO notes (key, value, until_ms, user) VALUES (?, ?, ?, ?)",
        (key, value, now_ms + ttl_ms, user),
    )
    return old


def _pop(db: sqlite3.Connection, key: str) -> bytes | None:
    (value,) = _get(db, [key])
    db.execute("DELETE FROM notes WHERE key = ?", (key,))
    return value


def _get(db: sqlite3.Connection, keys: list[str]) -> list[bytes | None]:
    now_ms = clock_ms()
    rows = [
        db.execute("SELECT value FROM notes WHERE key = ? AND until_ms > ?", (key, now_ms)).fetchone() for key in keys
    ]
    return [None if row is None else bytes(row["value"]) for row in rows]
