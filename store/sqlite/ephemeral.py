"""Ephemeral values in the embedded store. They expire by the wall clock, so that they outlive the process."""

from __future__ import annotations

import sqlite3

from store.sqlite.database import Database
from store.sqlite.turns import clock_ms


class SqliteEphemeral:
    """The ephemeral values of `Store`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def put_ephemeral(self, key: str, value: bytes, ttl_ms: int) -> bool:
        """See `Store`."""
        return await self._db.run(_put, key, value, ttl_ms)

    async def pop_ephemeral(self, key: str) -> bytes | None:
        """See `Store`."""
        return await self._db.run(_take, key)

    async def get_ephemeral(self, keys: list[str]) -> list[bytes | None]:
        """See `Store`."""
        return await self._db.run(_read, keys)


def _put(db: sqlite3.Connection, key: str, value: bytes, ttl_ms: int) -> bool:
    now_ms = clock_ms()
    db.execute("DELETE FROM notes WHERE until_ms <= ?", (now_ms,))
    known = db.execute("SELECT 1 FROM notes WHERE key = ?", (key,)).fetchone()
    db.execute("INSERT OR REPLACE INTO notes (key, value, until_ms) VALUES (?, ?, ?)", (key, value, now_ms + ttl_ms))
    return known is None


def _take(db: sqlite3.Connection, key: str) -> bytes | None:
    (value,) = _read(db, [key])
    db.execute("DELETE FROM notes WHERE key = ?", (key,))
    return value


def _read(db: sqlite3.Connection, keys: list[str]) -> list[bytes | None]:
    now_ms = clock_ms()
    found: list[bytes | None] = []
    for key in keys:
        row = db.execute("SELECT value FROM notes WHERE key = ? AND until_ms > ?", (key, now_ms)).fetchone()
        found.append(None if row is None else bytes(row["value"]))
    return found
