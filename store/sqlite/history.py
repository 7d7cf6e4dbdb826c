"""Conversations and messages in the SQLite store. Turns are in `turns.py` and `store.py`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import accumulate
from typing import TypeVar

from msgspec import structs

from store.errors import Limited, NotFound
from store.local_pubsub import Publication, list_publication
from store.records import DAY_MS, PINNED_MAX, Change, ConversationRecord, Counters, MessageRecord, TurnLimits
from store.sqlite.database import SqlitePart
from store.sqlite.flushes import Flushes
from store.sqlite.limits import check_storage, has_conversation
from store.sqlite.log import delete_newest
from store.sqlite.turns import running_in_conversation

T = TypeVar("T")

SHORT_BRANCH = 1000
"""A branch of more messages is read in another thread, so that the store's other calls don't wait for it."""
COUNTERS = Counters.__struct_fields__
_MESSAGE = ", ".join(
    f"{'feedback' if name in {'rating', 'comment'} else 'messages'}.{name}" for name in MessageRecord.__struct_fields__
)


class SqliteHistory(SqlitePart):
    """The conversations and messages of a `HistoryStore` in the SQLite store."""

    async def create_conversation(
        self, conversation: ConversationRecord, limits: TurnLimits | None = None
    ) -> ConversationRecord:
        """See `HistoryStore`."""
        return await self._db.run_then(self._publish, _create_conversation, conversation, limits)

    async def conversation(self, user: str, conversation: str) -> ConversationRecord:
        """See `HistoryStore`."""
        return await self._db.run(get_conversation, user, conversation)

    async def conversations(
        self, user: str, limit: int, before: str | None, *, whole: bool = False, pinned: bool = False
    ) -> tuple[list[ConversationRecord], bool]:
        """See `HistoryStore`."""
        rows = await self._db.run(_list_conversations, user, limit + 1, before, pinned)
        return [conversation_of(row) for row in rows[:limit]], len(rows) > limit

    async def update_conversation(
        self, user: str, conversation: str, change: Change, now_ms: int, limits: TurnLimits | None = None
    ) -> ConversationRecord:
        """See `HistoryStore`."""
        return await self._change(_update_conversation, user, conversation, change, now_ms, limits)

    async def clear_conversation(self, user: str, conversation: str, now_ms: int) -> ConversationRecord:
        """See `HistoryStore`."""
        return await self._change(_clear_conversation, user, conversation, now_ms)

    async def delete_conversation(self, user: str, conversation: str) -> list[str]:
        """See `HistoryStore`."""
        return await self._change(_delete_conversation, user, conversation, self._db.flushes)

    async def _change(self, work: Callable[..., T], user: str, conversation: str, *args: object) -> T:
        """Run `work(connection, user, conversation, …)`, which changes the conversation, and publish the change."""
        return await self._db.run_then(self._publish, _with_publication, work, user, conversation, args)

    async def message(self, user: str, message: str) -> MessageRecord:
        """See `HistoryStore`."""
        return await self._db.run(get_message, user, message)

    async def messages(
        self, user: str, conversation: str, limit: int, before: str | None, bytes_max: int | None = None
    ) -> tuple[list[MessageRecord], bool]:
        """See `HistoryStore`."""
        return await self._db.run(_list_messages, user, conversation, limit, before, bytes_max)

    async def branch(
        self,
        user: str,
        conversation: str,
        last: str | None,
        bytes_max: int | None = None,
        count_max: int | None = None,
    ) -> tuple[list[MessageRecord], int]:
        """See `HistoryStore`."""
        found = await self._db.run(_branch, user, conversation, last, bytes_max, count_max, steps_max=SHORT_BRANCH)
        if found is None:
            found = await self._db.read(_branch, user, conversation, last, bytes_max, count_max)
        assert found is not None
        return found

    async def expired_conversations(self, now_ms: int, retention_days: int, limit: int) -> list[tuple[str, str]]:
        """See `HistoryStore`."""
        return await self._db.run(_expired_conversations, now_ms, retention_days, limit)


def _with_publication(
    db: sqlite3.Connection, work: Callable[..., T], user: str, conversation: str, args: tuple[object, ...]
) -> tuple[T, list[Publication]]:
    return work(db, user, conversation, *args), [list_publication(user, conversation)]


def _create_conversation(
    db: sqlite3.Connection, new: ConversationRecord, limits: TurnLimits | None
) -> tuple[ConversationRecord, list[Publication]]:
    if has_conversation(db, new.user, new.id):
        return get_conversation(db, new.user, new.id), []
    if limits is not None:
        check_storage(db, new.user, limits, new.size, adds_conversation=True)
    insert_conversation(db, new)
    return get_conversation(db, new.user, new.id), [list_publication(new.user, new.id)]


def insert_conversation(db: sqlite3.Connection, new: ConversationRecord) -> None:
    """Insert a new conversation's row. Its user has no conversation with its id."""
    db.execute(
        "INSERT INTO conversations"
        " (key, id, user, title, system, model, metadata, head, revision, created_ms, updated_ms,"
        " retention_days, pinned, changed) VALUES"
        " (:key, :id, :user, :title, :system, :model, :metadata, :head, :revision, :created_ms, :updated_ms,"
        f" :retention_days, :pinned, {_next_change(':user')})",
        {"key": f"{len(new.user)}:{new.user}:{new.id}", **structs.asdict(new)},
    )


def _next_change(user: str) -> str:
    """Return the SQL of the next number in the order of changes. `user`: the SQL of the user."""
    return f"(SELECT coalesce(max(changed), 0) + 1 FROM conversations WHERE user = {user})"


def get_conversation(db: sqlite3.Connection, user: str, conversation: str) -> ConversationRecord:
    """Return a conversation of `user`. Raises `NotFound`."""
    return conversation_of(_row(db, user, conversation))


def get_key(db: sqlite3.Connection, user: str, conversation: str) -> str:
    """Return the key by which other tables refer to a conversation of `user`. Raises `NotFound`."""
    key: str = _row(db, user, conversation)["key"]
    return key


def _row(db: sqlite3.Connection, user: str, conversation: str) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM conversations WHERE user = ? AND id = ?", (user, conversation)
    ).fetchone()
    if row is None:
        raise NotFound("conversation")
    return row


def conversation_by_key(db: sqlite3.Connection, key: str) -> ConversationRecord:
    """Return the conversation with this key, which exists."""
    return conversation_of(db.execute("SELECT * FROM conversations WHERE key = ?", (key,)).fetchone())


def insert_message(db: sqlite3.Connection, user: str, key: str, new: MessageRecord) -> None:
    """Insert a message's row and count it in the conversation with this key, unless the message exists already."""
    inserted = db.execute(
        "INSERT OR IGNORE INTO messages (id, user, conversation, parent, role, turn, created_ms, body)"
        " VALUES (:id, :user, :conversation, :parent, :role, :turn, :created_ms, :body)",
        {"user": user, "conversation": key, **structs.asdict(new)},
    )
    if inserted.rowcount == 1:
        db.execute("UPDATE conversations SET messages = messages + 1 WHERE key = ?", (key,))


def counters_of(row: sqlite3.Row) -> Counters:
    """Return the sums in the counter columns of a row."""
    return Counters(*(row[name] if name == "cost_nano" else row[name] or 0 for name in COUNTERS))


def conversation_of(row: sqlite3.Row) -> ConversationRecord:
    """Return the conversation in a row of the table."""
    names = (name for name in ConversationRecord.__struct_fields__ if name not in {"usage", "pinned"})
    pinned = bool(row["pinned"])
    return ConversationRecord(usage=counters_of(row), pinned=pinned, **{name: row[name] for name in names})


def _list_conversations(
    db: sqlite3.Connection, user: str, limit: int, before: str | None, pinned: bool
) -> list[sqlite3.Row]:
    only = " AND pinned" if pinned else ""
    return db.execute(
        f"SELECT * FROM conversations WHERE user = ? AND changed < ?{only} ORDER BY changed DESC LIMIT ?",
        (user, list_end(db, user, before), limit),
    ).fetchall()


def list_end(db: sqlite3.Connection, user: str, before: str | None) -> int:
    """Return the exclusive upper bound of `changed` in a list that begins after `before`. Raises `NotFound`."""
    if before is None:
        return 2**62
    row = db.execute("SELECT changed FROM conversations WHERE user = ? AND id = ?", (user, before)).fetchone()
    if row is None:
        raise NotFound("before")
    return int(row["changed"])


def _update_conversation(
    db: sqlite3.Connection, user: str, conversation: str, change: Change, now_ms: int, limits: TurnLimits | None
) -> ConversationRecord:
    key, before = get_key(db, user, conversation), get_conversation(db, user, conversation)
    if change.replaced_title not in {None, before.title}:
        return before
    added_bytes = before.changed_by(change).size - before.size
    if limits is not None and added_bytes > 0:
        check_storage(db, user, limits, added_bytes, adds_conversation=False)
    if change.head is not None:
        check_message(db, user, key, change.head, "head")
    if change.pinned and not before.pinned:
        _check_pinned(db, user)
    for name in ("title", "system", "model", "metadata", "head", "pinned"):
        value = getattr(change, name)
        if value is not None:
            db.execute(f"UPDATE conversations SET {name} = ? WHERE key = ?", (value, key))
    if change.keeps_place:
        db.execute("UPDATE conversations SET revision = revision + 1 WHERE key = ?", (key,))
    else:
        touch_conversation(db, key, now_ms)
    return get_conversation(db, user, conversation)


def _check_pinned(db: sqlite3.Connection, user: str) -> None:
    """Raise `Limited` if the user has pinned as many conversations as are allowed."""
    pinned = db.execute("SELECT count(*) FROM conversations WHERE user = ? AND pinned", (user,)).fetchone()[0]
    if pinned >= PINNED_MAX:
        raise Limited("pinned")


def _clear_conversation(db: sqlite3.Connection, user: str, conversation: str, now_ms: int) -> ConversationRecord:
    key = get_key(db, user, conversation)
    touch_conversation(db, key, now_ms)
    db.execute("UPDATE conversations SET head = NULL, cleared_revision = revision WHERE key = ?", (key,))
    return get_conversation(db, user, conversation)


def touch_conversation(db: sqlite3.Connection, key: str, now_ms: int) -> None:
    """Raise the revision, and move the conversation with this key to the top of its user's list."""
    db.execute(
        "UPDATE conversations SET revision = revision + 1, updated_ms = max(updated_ms, ?1),"
        f" changed = {_next_change('(SELECT user FROM conversations WHERE key = ?2)')} WHERE key = ?2",
        (now_ms, key),
    )


def _delete_conversation(db: sqlite3.Connection, user: str, conversation: str, flushes: Flushes) -> list[str]:
    key = get_key(db, user, conversation)
    running = [row["turn"] for row in running_in_conversation(db, user, key)]
    for row in db.execute("SELECT n FROM turns WHERE conversation = ? AND logged", (key,)).fetchall():
        delete_newest(db, flushes, row["n"], erase=True)
    db.execute("DELETE FROM conversations WHERE key = ?", (key,))
    return running


def get_message(db: sqlite3.Connection, user: str, message: str) -> MessageRecord:
    row = db.execute(
        f"SELECT {_MESSAGE} FROM messages LEFT JOIN feedback"
        " ON feedback.user = messages.user AND feedback.message = messages.id"
        " WHERE messages.user = ? AND messages.id = ?",
        (user, message),
    ).fetchone()
    if row is None:
        raise NotFound("message")
    return MessageRecord(**dict(row))


def check_message(db: sqlite3.Connection, user: str, key: str, message: str, field: str) -> None:
    """Raise `NotFound(field)` unless `message` is in the conversation with this key."""
    found = db.execute(
        "SELECT 1 FROM messages WHERE user = ? AND id = ? AND conversation = ?", (user, message, key)
    ).fetchone()
    if found is None:
        raise NotFound(field)


def _list_messages(
    db: sqlite3.Connection, user: str, conversation: str, limit: int, before: str | None, bytes_max: int | None
) -> tuple[list[MessageRecord], bool]:
    key = get_key(db, user, conversation)
    end = 2**62
    if before is not None:
        check_message(db, user, key, before, "before")
        end = db.execute("SELECT n FROM messages WHERE user = ? AND id = ?", (user, before)).fetchone()["n"]
    sizes = db.execute(
        "SELECT id, LENGTH(body) FROM messages WHERE conversation = ? AND n < ? ORDER BY n DESC LIMIT ?",
        (key, end, limit + 1),
    ).fetchall()
    count = _count_within(bytes_max, sizes[:limit])
    return [get_message(db, user, message) for message, _ in reversed(sizes[:count])], len(sizes) > count


def _count_within(bytes_max: int | None, sizes: list[tuple[str, int]]) -> int:
    """Return how many of the first messages have at most `bytes_max` bytes together, but at least one if there is one.

    `sizes` has the id of each message and the length of its body.
    """
    totals = accumulate(size for _, size in sizes)
    return len(sizes) if bytes_max is None else max(min(1, len(sizes)), sum(total <= bytes_max for total in totals))


def _branch(
    db: sqlite3.Connection,
    user: str,
    conversation: str,
    last: str | None,
    bytes_max: int | None,
    count_max: int | None,
    steps_max: int | None = None,
) -> tuple[list[MessageRecord], int] | None:
    """Return the branch, or None if it has more than `steps_max` messages."""
    if last is None:
        return [], 0
    if not has_conversation(db, user, conversation):
        raise NotFound("parent")
    check_message(db, user, get_key(db, user, conversation), last, "parent")
    sizes = db.execute(
        "WITH RECURSIVE up (id, depth) AS ("
        "  SELECT ?2, 0 UNION ALL"
        "  SELECT messages.parent, depth + 1 FROM messages JOIN up ON messages.user = ?1 AND messages.id = up.id"
        "  WHERE messages.parent IS NOT NULL LIMIT ?3)"
        " SELECT up.id, LENGTH(messages.body) FROM up"
        " JOIN messages ON messages.user = ?1 AND messages.id = up.id ORDER BY depth",
        (user, last, -1 if steps_max is None else steps_max + 1),
    ).fetchall()
    if steps_max is not None and len(sizes) > steps_max:
        return None
    count = _count_within(bytes_max, sizes)
    if count_max is not None:
        count = min(count, max(count_max, 1))
    return [get_message(db, user, message) for message, _ in reversed(sizes[:count])], len(sizes) - count


def _expired_conversations(
    db: sqlite3.Connection, now_ms: int, retention_days: int, limit: int
) -> list[tuple[str, str]]:
    own = f"SELECT user, id, updated_ms + retention_days * {DAY_MS} AS at FROM conversations WHERE retention_days > 0"
    default = "SELECT user, id, updated_ms + ?2 AS at FROM conversations WHERE retention_days IS NULL AND updated_ms <= ?1 - ?2"
    queries = [f"{own} AND at <= ?1", *([default] if retention_days else [])]
    found = [
        tuple(row)
        for query in queries
        for row in db.execute(f"{query} ORDER BY at LIMIT ?3", (now_ms, retention_days * DAY_MS, limit))
    ]
    return [(user, conversation) for user, conversation, _ in sorted(found, key=lambda row: row[2])[:limit]]
