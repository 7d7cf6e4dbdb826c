"""The usage of turns in the SQLite store: sums, and sums per day."""

from __future__ import annotations

import sqlite3

from store.records import DAY_MS, Counters, DayUsage
from store.sqlite.database import SqlitePart
from store.sqlite.history import COUNTERS, counters_of, get_key


class SqliteUsage(SqlitePart):
    """The usage of a `HistoryStore` in the SQLite store."""

    async def usage_days(self, user: str) -> list[DayUsage]:
        """See `HistoryStore`."""
        return await self._db.read(_usage_days, user)

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """See `HistoryStore`."""
        return await self._db.run(_usage, user, conversation, since_ms)


def _usage(db: sqlite3.Connection, user: str, conversation: str | None, since_ms: int | None) -> Counters:
    key = None if conversation is None else get_key(db, user, conversation)
    row = db.execute(
        f"SELECT {', '.join(f'sum({name}) AS {name}' for name in COUNTERS)} FROM turns"
        " WHERE user = ? AND ended_ms >= ? AND (? IS NULL OR conversation = ?)",
        (user, since_ms or 0, key, key),
    ).fetchone()
    return counters_of(row)


def _usage_days(db: sqlite3.Connection, user: str) -> list[DayUsage]:
    rows = db.execute(
        f"SELECT ended_ms / {DAY_MS} AS day, count(*) AS turns, {', '.join(f'sum({name}) AS {name}' for name in COUNTERS)}"
        " FROM turns WHERE user = ? AND ended_ms >= 0 GROUP BY day ORDER BY day",
        (user,),
    )
    return [DayUsage(day_ms=row["day"] * DAY_MS, turns=row["turns"], usage=counters_of(row)) for row in rows]
