"""The search in the SQLite store: a full-text index of the messages of those users who search.

After a search, the user's messages are indexed in the background, in slices, so no turn waits for it, and the messages of a
user who never searches cost nothing. A search reads the messages that aren't in the index yet one by one, so it misses none.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import structlog

from store.api import Deliver, user_hash
from store.errors import StoreError
from store.records import Found
from store.search_text import SearchQuery, index_text, message_text, parse_query, snippet
from store.sqlite.database import Database, SqlitePart
from store.sqlite.history import conversation_of, list_end

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.stdlib.get_logger("turnwire.store")

INDEX_DELAY_S = 0.5
"""The time from a search to the indexing, so that the searches while a user types are answered first."""
NUMBERS_AT_ONCE = 5000
REMOVED_AT_ONCE = 200
SLICE_S = 0.01
SHARE = 0.2
"""The part of the time of the store's thread that the indexing may take."""
_UNINDEXED = "messages WHERE user = ?1 AND +n > ?2"
"""The plus makes SQLite look the messages up by user instead of reading those of all users."""


class SqliteSearch(SqlitePart):
    """The search of `HistoryStore` in the SQLite store."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._searching: dict[str, None] = {}
        self._wake = asyncio.Event()

    async def search(self, user: str, query: str, limit: int, before: str | None) -> tuple[list[Found], bool]:
        """See `HistoryStore`."""
        found = await self._db.read(_search, user, query, limit + 1, before)
        self._searching[user] = None
        self._wake.set()
        return found[:limit], len(found) > limit

    async def run_pubsub(self, deliver: Deliver, on_reconnect: Callable[[], None]) -> None:
        """See `PubSub`. Meanwhile keep the index, first removing what an earlier process has left in it."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run_indexing())
            await super().run_pubsub(deliver, on_reconnect)

    def note_removed(self) -> None:
        """Schedule the removal of deleted messages from the index."""
        self._wake.set()

    async def index_user(self, user: str, share: float = 1) -> None:
        """Index all messages of the user, in `share` of the time of the store's thread. Raises `StoreError`."""
        while numbers := await self._db.read(_unindexed_numbers, user):
            while numbers:
                numbers = await self._slice(share, _index_slice, user, numbers)

    async def unindex_removed(self, share: float = 1) -> None:
        """Remove deleted messages from the index, in `share` of the time. Raises `StoreError`."""
        while await self._slice(share, _unindex_slice):
            pass

    async def _slice(
        self,
        share: float,
        work: Callable[Concatenate[sqlite3.Connection, P], tuple[T, float]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Do a part of the work, and leave the thread to others for a while. `work` returns also how many seconds it took."""
        result, took_s = await self._db.run(work, *args, **kwargs)
        await asyncio.sleep(took_s * (1 - share) / share)
        return result

    async def _run_indexing(self) -> None:
        self._wake.set()
        while True:
            await self._wake.wait()
            await asyncio.sleep(INDEX_DELAY_S)
            self._wake.clear()
            try:
                await self.unindex_removed(SHARE)
                while self._searching:
                    user = next(iter(self._searching))
                    await self.index_user(user, SHARE)
                    self._searching.pop(user, None)
            except StoreError as error:
                log.warning("messages can't be indexed for the search, retrying", error=str(error))
                self._wake.set()


def _unindex_slice(db: sqlite3.Connection) -> tuple[bool, float]:
    """Remove some of the deleted messages from the index. Return whether there may be more, and how many seconds it took."""
    began = time.perf_counter()
    rows = db.execute("SELECT n FROM removed_messages LIMIT ?", (REMOVED_AT_ONCE,)).fetchall()
    for row in rows:
        db.execute("DELETE FROM message_words WHERE rowid = ?", (row["n"],))
        db.execute("DELETE FROM removed_messages WHERE n = ?", (row["n"],))
        if time.perf_counter() - began > SLICE_S:
            break
    return bool(rows), time.perf_counter() - began


def _indexed(db: sqlite3.Connection, user: str) -> int:
    """Return the number up to which the user's messages are in the index."""
    row = db.execute("SELECT indexed FROM searches WHERE user = ?", (user,)).fetchone()
    return 0 if row is None else int(row["indexed"])


def _unindexed_numbers(db: sqlite3.Connection, user: str) -> list[int]:
    """Return the numbers of the user's oldest messages that aren't in the index."""
    rows = db.execute(f"SELECT n FROM {_UNINDEXED} ORDER BY n LIMIT ?3", (user, _indexed(db, user), NUMBERS_AT_ONCE))
    return [row["n"] for row in rows]


def _index_slice(db: sqlite3.Connection, user: str, numbers: list[int]) -> tuple[list[int], float]:
    """Index the first few of the messages with these numbers. Return the other numbers, and how many seconds it took."""
    began = time.perf_counter()
    indexed, done = _indexed(db, user), 0
    for n in numbers:
        done += 1
        row = db.execute("SELECT body FROM messages WHERE n = ?", (n,)).fetchone() if n > indexed else None
        text = "" if row is None else index_text(message_text(row["body"]))
        if text:
            db.execute("INSERT INTO message_words (rowid, owner, words) VALUES (?, ?, ?)", (n, _token(user), text))
        if time.perf_counter() - began > SLICE_S:
            break
    # An erased user has no row in `stored`, and must get none in `searches`.
    db.execute(
        "INSERT INTO searches (user, indexed) SELECT user, ?1 FROM stored WHERE user = ?2"
        " ON CONFLICT (user) DO UPDATE SET indexed = max(indexed, excluded.indexed)",
        (numbers[done - 1], user),
    )
    return numbers[done:], time.perf_counter() - began


def _token(user: str) -> str:
    """Return the word in the index that all messages of the user have."""
    return f"u{user_hash(user)}"


def _search(db: sqlite3.Connection, user: str, query: str, limit: int, before: str | None) -> list[Found]:
    end = list_end(db, user, before)
    parsed = parse_query(query)
    indexed = _indexed(db, user)
    newest = _indexed_matches(db, user, parsed)
    unindexed = _unindexed_conversations(db, user, indexed) if parsed.phrases else set()
    folded = query.casefold()
    found: list[tuple[str, int | None]] = []
    titles = db.execute(
        "SELECT key, title FROM conversations WHERE user = ? AND changed < ? ORDER BY changed DESC", (user, end)
    )
    for key, title in titles:
        message = _unindexed_match(db, key, indexed, parsed) if key in unindexed else None
        message = newest.get(key) if message is None else message
        if message is not None or folded in title.casefold():
            found.append((key, message))
            if len(found) == limit:
                break
    return [_found(db, key, message, parsed) for key, message in found]


def _found(db: sqlite3.Connection, key: str, message: int | None, query: SearchQuery) -> Found:
    record = conversation_of(db.execute("SELECT * FROM conversations WHERE key = ?", (key,)).fetchone())
    if message is None:
        return Found(record=record)
    row = db.execute("SELECT id, body FROM messages WHERE n = ?", (message,)).fetchone()
    return Found(record=record, message=row["id"], snippet=snippet(message_text(row["body"]), query))


def _indexed_matches(db: sqlite3.Connection, user: str, query: SearchQuery) -> dict[str, int]:
    """Return the number of the newest message in the index that matches, by the key of its conversation."""
    if not query.phrases:
        return {}
    rows = db.execute(
        "SELECT messages.conversation, max(messages.n) FROM message_words"
        " JOIN messages ON messages.n = message_words.rowid"
        " WHERE message_words MATCH ? AND messages.user = ? GROUP BY messages.conversation",
        (_match_expression(user, query), user),
    )
    return dict(map(tuple, rows))


def _unindexed_conversations(db: sqlite3.Connection, user: str, indexed: int) -> set[str]:
    """Return the keys of the user's conversations with messages that aren't in the index yet."""
    return {
        row["conversation"] for row in db.execute(f"SELECT DISTINCT conversation FROM {_UNINDEXED}", (user, indexed))
    }


def _unindexed_match(db: sqlite3.Connection, key: str, indexed: int, query: SearchQuery) -> int | None:
    """Return the number of the conversation's newest message that isn't in the index yet and matches."""
    rows = db.execute("SELECT n, body FROM messages WHERE conversation = ? AND n > ? ORDER BY n DESC", (key, indexed))
    return next((row["n"] for row in rows if query.matches_text(message_text(row["body"]))), None)


def _match_expression(user: str, query: SearchQuery) -> str:
    """Return the query in the language of FTS5. The words have only letters and digits, so none has a meaning there."""
    phrases = [f'"{" ".join(phrase)}"' for phrase in query.phrases]
    if query.ends_with_prefix:
        phrases[-1] += " *"
    expression = f'owner : "{_token(user)}" AND words : ({" AND ".join(phrases)})'
    excluded = [f'"{" ".join(phrase)}"' for phrase in query.excluded]
    return f"({expression}) NOT words : ({' OR '.join(excluded)})" if excluded else expression
