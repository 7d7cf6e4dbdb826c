"""Conversations, messages and feedback in the embedded store. Turns are in `turns.py` and `store.py`."""

from __future__ import annotations

import sqlite3
import sys

from store.records import Change, ConversationRecord, Counters, MessageRecord, NotFound, TurnLimits
from store.sqlite.database import Database
from store.sqlite.limits import refuse_storing
from store.sqlite.log import drop_newest
from store.sqlite.turns import running_in

COUNTERS = (
    "input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cost_nano",
)


class SqliteHistory:
    """The part of the embedded store with the history that clients browse."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def create_conversation(self, conversation: ConversationRecord, limits: TurnLimits | None = None) -> None:
        """See `Store`."""
        await self._db.run(_create_conversation, conversation, limits)

    async def conversation(self, user: str, conversation: str) -> ConversationRecord:
        """See `Store`."""
        return await self._db.run(read_conversation, user, conversation)

    async def conversations(
        self, user: str, limit: int, before: str | None, query: str | None
    ) -> tuple[list[ConversationRecord], bool]:
        """See `Store`."""
        return await self._db.run(_list_conversations, user, limit, before, query)

    async def update_conversation(
        self, user: str, conversation: str, change: Change, now_ms: int, limits: TurnLimits | None = None
    ) -> ConversationRecord:
        """See `Store`."""
        return await self._db.run(_update_conversation, user, conversation, change, now_ms, limits)

    async def clear_conversation(self, user: str, conversation: str, now_ms: int) -> ConversationRecord:
        """See `Store`."""
        return await self._db.run(_clear_conversation, user, conversation, now_ms)

    async def delete_conversation(self, user: str, conversation: str) -> list[str]:
        """See `Store`."""
        return await self._db.run(_delete_conversation, user, conversation)

    async def message(self, user: str, message: str) -> MessageRecord:
        """See `Store`."""
        return await self._db.run(_message, user, message)

    async def messages(
        self, user: str, conversation: str, limit: int, before: str | None
    ) -> tuple[list[MessageRecord], bool]:
        """See `Store`."""
        return await self._db.run(_messages, user, conversation, limit, before)

    async def branch(
        self, user: str, conversation: str, last: str | None, bytes_max: int | None = None
    ) -> tuple[list[MessageRecord], int]:
        """See `Store`."""
        return await self._db.run(_branch, user, conversation, last, bytes_max)

    async def put_feedback(self, user: str, message: str, rating: str, comment: str | None, now_ms: int) -> None:
        """See `Store`."""
        await self._db.run(_put_feedback, user, message, rating, comment, now_ms)


def _create_conversation(db: sqlite3.Connection, new: ConversationRecord, limits: TurnLimits | None) -> None:
    if limits is not None:
        refuse_storing(db, new.user, limits, new.size, fresh=True)
    insert_conversation(db, new)


def insert_conversation(db: sqlite3.Connection, new: ConversationRecord) -> None:
    """Insert a new conversation's row."""
    db.execute(
        "INSERT INTO conversations (id, user, title, system, model, metadata, head, revision, created_ms,"
        " updated_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.id,
            new.user,
            new.title,
            new.system,
            new.model,
            new.metadata,
            new.head,
            new.revision,
            new.created_ms,
            new.updated_ms,
        ),
    )


def read_conversation(db: sqlite3.Connection, user: str, conversation: str) -> ConversationRecord:
    """Return a conversation of `user`. Raises `NotFound`."""
    row = db.execute("SELECT * FROM conversations WHERE id = ? AND user = ?", (conversation, user)).fetchone()
    if row is None:
        raise NotFound("conversation")
    return _conversation(row)


def insert_message(db: sqlite3.Connection, user: str, conversation: str, new: MessageRecord) -> bool:
    """Insert a message's row and count it in its conversation. Return False if the message exists already."""
    written = db.execute(
        "INSERT OR IGNORE INTO messages (id, user, conversation, parent, role, turn, created_ms, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (new.id, user, conversation, new.parent, new.role, new.turn, new.created_ms, new.body),
    )
    if written.rowcount == 1:
        db.execute("UPDATE conversations SET messages = messages + 1 WHERE id = ?", (conversation,))
    return written.rowcount == 1


def counters(row: sqlite3.Row) -> Counters:
    """Return the sums in the counter columns of a row."""
    return Counters(*(row[name] if name == "cost_nano" else row[name] or 0 for name in COUNTERS))


def _conversation(row: sqlite3.Row) -> ConversationRecord:
    return ConversationRecord(
        id=row["id"],
        user=row["user"],
        title=row["title"],
        system=row["system"],
        model=row["model"],
        metadata=row["metadata"],
        head=row["head"],
        revision=row["revision"],
        created_ms=row["created_ms"],
        updated_ms=row["updated_ms"],
        messages=row["messages"],
        usage=counters(row),
    )


def _message_record(row: sqlite3.Row) -> MessageRecord:
    return MessageRecord(
        id=row["id"],
        parent=row["parent"],
        role=row["role"],
        created_ms=row["created_ms"],
        body=row["body"],
        turn=row["turn"],
    )


def _list_conversations(
    db: sqlite3.Connection, user: str, limit: int, before: str | None, query: str | None
) -> tuple[list[ConversationRecord], bool]:
    where, values = ["user = ?"], [user]
    if before is not None:
        last = db.execute(
            "SELECT updated_ms, n FROM conversations WHERE id = ? AND user = ?", (before, user)
        ).fetchone()
        if last is None:
            raise NotFound("before")
        where.append("(updated_ms, n) < (?, ?)")
        values += [last["updated_ms"], last["n"]]
    if query:
        where.append("instr(casefold(title), casefold(?)) > 0")
        values.append(query)
    rows = db.execute(
        f"SELECT * FROM conversations WHERE {' AND '.join(where)} ORDER BY updated_ms DESC, n DESC LIMIT ?",
        (*values, limit + 1),
    ).fetchall()
    return [_conversation(row) for row in rows[:limit]], len(rows) > limit


def _update_conversation(
    db: sqlite3.Connection, user: str, conversation: str, change: Change, now_ms: int, limits: TurnLimits | None
) -> ConversationRecord:
    before = read_conversation(db, user, conversation)
    grows = before.changed_by(change).size - before.size
    if limits is not None and grows > 0:
        refuse_storing(db, user, limits, grows, fresh=False)
    if change.head is not None:
        require_message(db, user, conversation, change.head, "head")
    for name in ("title", "system", "model", "metadata", "head"):
        value = getattr(change, name)
        if value is not None:
            db.execute(f"UPDATE conversations SET {name} = ? WHERE id = ?", (value, conversation))
    touch(db, conversation, now_ms)
    return read_conversation(db, user, conversation)


def _clear_conversation(db: sqlite3.Connection, user: str, conversation: str, now_ms: int) -> ConversationRecord:
    read_conversation(db, user, conversation)
    touch(db, conversation, now_ms)
    db.execute("UPDATE conversations SET head = NULL, cleared_revision = revision WHERE id = ?", (conversation,))
    return read_conversation(db, user, conversation)


def touch(db: sqlite3.Connection, conversation: str, now_ms: int) -> None:
    """Raise the revision and move the conversation to the top."""
    db.execute(
        "UPDATE conversations SET revision = revision + 1, updated_ms = max(updated_ms, ?) WHERE id = ?",
        (now_ms, conversation),
    )


def _delete_conversation(db: sqlite3.Connection, user: str, conversation: str) -> list[str]:
    running = [row["turn"] for row in running_in(db, read_conversation(db, user, conversation))]
    for row in db.execute("SELECT n FROM turns WHERE conversation = ? AND logged", (conversation,)).fetchall():
        drop_newest(db, row["n"])
    db.execute("DELETE FROM conversations WHERE id = ?", (conversation,))
    return running


def _message(db: sqlite3.Connection, user: str, message: str) -> MessageRecord:
    row = db.execute("SELECT * FROM messages WHERE id = ? AND user = ?", (message, user)).fetchone()
    if row is None:
        raise NotFound("message")
    return _message_record(row)


def require_message(db: sqlite3.Connection, user: str, conversation: str, message: str, what: str) -> None:
    """Raise `NotFound(what)` unless `message` is in `conversation`."""
    found = db.execute(
        "SELECT 1 FROM messages WHERE id = ? AND user = ? AND conversation = ?", (message, user, conversation)
    ).fetchone()
    if found is None:
        raise NotFound(what)


def _messages(
    db: sqlite3.Connection, user: str, conversation: str, limit: int, before: str | None
) -> tuple[list[MessageRecord], bool]:
    read_conversation(db, user, conversation)
    end = 2**62
    if before is not None:
        require_message(db, user, conversation, before, "before")
        end = db.execute("SELECT n FROM messages WHERE id = ?", (before,)).fetchone()["n"]
    rows = db.execute(
        "SELECT * FROM messages WHERE conversation = ? AND n < ? ORDER BY n DESC LIMIT ?",
        (conversation, end, limit + 1),
    ).fetchall()
    return [_message_record(row) for row in reversed(rows[:limit])], len(rows) > limit


def _branch(
    db: sqlite3.Connection, user: str, conversation: str, last: str | None, bytes_max: int | None
) -> tuple[list[MessageRecord], int]:
    if last is None:
        return [], 0
    require_message(db, user, conversation, last, "parent")
    sizes = db.execute(
        "WITH RECURSIVE up (id, depth) AS ("
        "  SELECT ?, 0 UNION ALL"
        "  SELECT messages.parent, depth + 1 FROM messages JOIN up ON messages.id = up.id"
        "  WHERE messages.parent IS NOT NULL)"
        " SELECT up.id, LENGTH(messages.body) FROM up JOIN messages ON messages.id = up.id ORDER BY depth",
        (last,),
    ).fetchall()
    left = sys.maxsize if bytes_max is None else bytes_max
    count = 0
    for _, size in sizes:
        left -= size
        if left < 0 and count:
            break
        count += 1
    rows = [
        db.execute("SELECT * FROM messages WHERE id = ?", (message,)).fetchone()
        for message, _ in reversed(sizes[:count])
    ]
    return [_message_record(row) for row in rows], len(sizes) - count


def _put_feedback(
    db: sqlite3.Connection, user: str, message: str, rating: str, comment: str | None, now_ms: int
) -> None:
    _message(db, user, message)
    db.execute(
        "INSERT OR REPLACE INTO feedback (message, user, rating, comment, at_ms) VALUES (?, ?, ?, ?, ?)",
        (message, user, rating, comment, now_ms),
    )
