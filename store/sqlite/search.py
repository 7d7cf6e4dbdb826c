"""The search in the SQLite store: a full-text index of the messages, which is filled in the background, in slices.

So no turn waits for it. A search reads the messages that aren't in the index yet one by one, so it misses none.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable

import structlog

from store.api import Deliver, user_hash
from store.records import Found, StoreError
from store.search_text import SearchQuery, index_text, message_text, parse_query, snippet
from store.sqlite.database import Database, SqlitePart
from store.sqlite.history import conversation_of, list_end

log = structlog.stdlib.get_logger("turnwire.store")

INDEX_DELAY_S = 0.5
"""Messages that arrive within this time are indexed together, which costs less than one by one."""
SLICE_ROWS_MAX = 200
SLICE_S = 0.01
SHARE = 0.2
"""The part of the time of the store's thread that the indexing may take."""
BACKLOG_ROWS = 1000
"""If more messages than this aren't in the index yet, they are looked up by conversation instead of in order."""


class SqliteSearch(SqlitePart):
    """The search of `HistoryStore` in the SQLite store."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.messages_changed = asyncio.Event()
        """Set this after messages were added or deleted."""

    async def search(self, user: str, query: str, limit: int, before: str | None) -> tuple[list[Found], bool]:
        """See `HistoryStore`."""
        found = await self._db.read(_search, user, query, limit + 1, before)
        return found[:limit], len(found) > limit

    async def run_pubsub(self, deliver: Deliver, on_reconnect: Callable[[], None]) -> None:
        """See `PubSub`. Meanwhile index messages, first those that an earlier process has left."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run_indexing())
            await super().run_pubsub(deliver, on_reconnect)

    async def index_now(self) -> None:
        """Index all messages, and remove those that were deleted. Raises `StoreError`."""
        while (await self._db.run(_index_slice))[0]:
            pass

    async def _run_indexing(self) -> None:
        self.messages_changed.set()
        while True:
            await self.messages_changed.wait()
            await asyncio.sleep(INDEX_DELAY_S)
            self.messages_changed.clear()
            try:
                more = True
                while more:
                    more, took_s = await self._db.run(_index_slice)
                    await asyncio.sleep(took_s * (1 - SHARE) / SHARE)
            except StoreError as error:
                log.warning("messages can't be indexed for the search, retrying", error=str(error))
                self.messages_changed.set()


def _index_slice(db: sqlite3.Connection) -> tuple[bool, float]:
    """Do a part of the indexing. Return whether there is more to do, and how many seconds it took."""
    began = time.perf_counter()
    removed = db.execute("SELECT n FROM removed_messages LIMIT ?", (SLICE_ROWS_MAX,)).fetchall()
    done = 0
    for row in removed:
        db.execute("DELETE FROM message_words WHERE rowid = ?", (row["n"],))
        db.execute("DELETE FROM removed_messages WHERE n = ?", (row["n"],))
        done += 1
        if time.perf_counter() - began > SLICE_S:
            return True, time.perf_counter() - began
    # The last row of the slice tells whether there is more; reading only the numbers first keeps large bodies out of memory.
    rows = db.execute(
        "SELECT n FROM messages WHERE n > (SELECT indexed FROM search_state) ORDER BY n LIMIT ?", (SLICE_ROWS_MAX,)
    ).fetchall()
    last = 0
    for row in rows:
        last = row["n"]
        user, body = db.execute("SELECT user, body FROM messages WHERE n = ?", (last,)).fetchone()
        text = index_text(message_text(body))
        if text:
            db.execute("INSERT INTO message_words (rowid, owner, words) VALUES (?, ?, ?)", (last, _token(user), text))
        if time.perf_counter() - began > SLICE_S:
            break
    if last:
        db.execute("UPDATE search_state SET indexed = ?", (last,))
    more = len(removed) == SLICE_ROWS_MAX or (bool(rows) and (last != rows[-1]["n"] or len(rows) == SLICE_ROWS_MAX))
    return more, time.perf_counter() - began


def _token(user: str) -> str:
    """Return the word in the index that all messages of the user have."""
    return f"u{user_hash(user)}"


def _search(db: sqlite3.Connection, user: str, query: str, limit: int, before: str | None) -> list[Found]:
    end = list_end(db, user, before)
    parsed = parse_query(query)
    newest = _matches(db, user, parsed)
    folded = query.casefold()
    found: list[tuple[str, int | None]] = []
    titles = db.execute(
        "SELECT key, title FROM conversations WHERE user = ? AND changed < ? ORDER BY changed DESC", (user, end)
    )
    for key, title in titles:
        if key in newest or folded in title.casefold():
            found.append((key, newest.get(key)))
            if len(found) == limit:
                break
    return [_found(db, key, message, parsed) for key, message in found]


def _found(db: sqlite3.Connection, key: str, message: int | None, query: SearchQuery) -> Found:
    record = conversation_of(db.execute("SELECT * FROM conversations WHERE key = ?", (key,)).fetchone())
    if message is None:
        return Found(record=record)
    row = db.execute("SELECT id, body FROM messages WHERE n = ?", (message,)).fetchone()
    return Found(record=record, message=row["id"], snippet=snippet(message_text(row["body"]), query))


def _matches(db: sqlite3.Connection, user: str, query: SearchQuery) -> dict[str, int]:
    """Return the number of the newest message that matches, by the key of its conversation."""
    if not query.phrases:
        return {}
    rows = db.execute(
        "SELECT messages.conversation, max(messages.n) FROM message_words"
        " JOIN messages ON messages.n = message_words.rowid"
        " WHERE message_words MATCH ? AND messages.user = ? GROUP BY messages.conversation",
        (_match_expression(user, query), user),
    )
    found: dict[str, int] = dict(map(tuple, rows))
    for key, n, body in _unindexed(db, user):
        if query.matches_text(message_text(body)):
            found[key] = max(n, found.get(key, 0))
    return found


def _unindexed(db: sqlite3.Connection, user: str) -> Iterable[tuple[str, int, bytes]]:
    """Return the user's messages that aren't in the index yet, each with its conversation's key and its number."""
    indexed, last = db.execute(
        "SELECT indexed, (SELECT coalesce(max(n), 0) FROM messages) FROM search_state"
    ).fetchone()
    source = (
        "messages WHERE user = ?1"
        if last - indexed <= BACKLOG_ROWS
        else "messages INDEXED BY messages_by_time WHERE conversation IN (SELECT key FROM conversations WHERE user = ?1)"
    )
    return db.execute(f"SELECT conversation, n, body FROM {source} AND n > ?2", (user, indexed))


def _match_expression(user: str, query: SearchQuery) -> str:
    """Return the query in the language of FTS5. The words have only letters and digits, so none has a meaning there."""
    phrases = [f'"{" ".join(phrase)}"' for phrase in query.phrases]
    if query.ends_with_prefix:
        phrases[-1] += " *"
    expression = f'owner : "{_token(user)}" AND words : ({" AND ".join(phrases)})'
    excluded = [f'"{" ".join(phrase)}"' for phrase in query.excluded]
    return f"({expression}) NOT words : ({' OR '.join(excluded)})" if excluded else expression
