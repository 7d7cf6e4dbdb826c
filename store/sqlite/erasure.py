"""The erasure of a user in the SQLite store: nothing of the user stays in the file or in its journal.

It is done in slices, so that the calls of other users run in between. What is deleted is overwritten with zeros.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time

from store.errors import StoreError
from store.sqlite.ephemeral import SqliteEphemeral
from store.sqlite.flushes import Flushes
from store.sqlite.leases import delete_lease
from store.sqlite.log import delete_newest
from store.sqlite.search import SqliteSearch

SLICE_S = 0.02
ROWS_AT_ONCE = 20
LOG_ENTRIES_AT_ONCE = 500
MERGE_PAGES = 64
"""How many pages of the search's index are merged at once."""
JOURNAL_ATTEMPTS = 50
JOURNAL_RETRY_S = 0.1


class SqliteErasure(SqliteSearch, SqliteEphemeral):
    """`HistoryStore.erase_user` in the SQLite store."""

    async def erase_user(self, user: str) -> None:
        """See `HistoryStore`."""
        self.forget_limits(user)
        while await self._db.run(_erase_slice, self._db.flushes, user):
            pass
        await self.unindex_removed()
        await self._purge_index()
        for _ in range(JOURNAL_ATTEMPTS):
            if await self._db.truncate_journal():
                return
            await asyncio.sleep(JOURNAL_RETRY_S)
        raise StoreError(
            "The journal of the database is in use by another process. End that process, then erase the user again."
        )

    async def _purge_index(self) -> None:
        """Rewrite the search's index without the words of deleted messages: until then it only marks them as deleted."""
        pages = -MERGE_PAGES
        while await self._db.run(_merge, pages):
            pages = MERGE_PAGES


def _merge(db: sqlite3.Connection, pages: int) -> bool:
    """Merge some pages of the search's index. Return whether there is more to merge. Negative `pages` begin a full merge."""
    before = db.total_changes
    db.execute("INSERT INTO message_words (message_words, rank) VALUES ('merge', ?)", (pages,))
    return db.total_changes - before >= 2  # see "The merge Command" in the documentation of FTS5


def _erase_slice(db: sqlite3.Connection, flushes: Flushes, user: str) -> bool:
    """Delete a part of what the user has. Return whether there may be more."""
    began = time.perf_counter()
    while time.perf_counter() - began < SLICE_S:
        if not (_erase_turns(db, flushes, user) or _erase_messages(db, user)):
            break
    else:
        return True
    db.execute("DELETE FROM stored WHERE user = ?", (user,))
    db.execute("DELETE FROM searches WHERE user = ?", (user,))
    db.execute("DELETE FROM starts WHERE user = ?", (user,))
    db.execute("DELETE FROM notes WHERE user = ?", (user,))
    return False


def _erase_turns(db: sqlite3.Connection, flushes: Flushes, user: str) -> bool:
    """Delete some of the user's turns and their logs. Return whether there were any."""
    rows = db.execute("SELECT n FROM turns WHERE user = ? LIMIT ?", (user, ROWS_AT_ONCE)).fetchall()
    for row in rows:
        n = row["n"]
        if delete_newest(db, flushes, n, LOG_ENTRIES_AT_ONCE, erase=True) >= LOG_ENTRIES_AT_ONCE:
            return True
        delete_lease(db, n)
        db.execute("DELETE FROM queues WHERE turn = ?", (n,))
        db.execute("DELETE FROM log_tails WHERE turn = ?", (n,))
        db.execute("DELETE FROM turns WHERE n = ?", (n,))
    return bool(rows)


def _erase_messages(db: sqlite3.Connection, user: str) -> bool:
    """Delete some messages of one of the user's conversations, or that conversation. Return whether there was one."""
    row = db.execute("SELECT key FROM conversations WHERE user = ? LIMIT 1", (user,)).fetchone()
    if row is None:
        return False
    deleted = db.execute(
        "DELETE FROM messages WHERE n IN (SELECT n FROM messages WHERE conversation = ? ORDER BY n LIMIT ?)",
        (row["key"], ROWS_AT_ONCE),
    )
    if deleted.rowcount < ROWS_AT_ONCE:
        db.execute("DELETE FROM conversations WHERE key = ?", (row["key"],))
    return True
