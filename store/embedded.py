"""The embedded store: everything in one SQLite file, for one process. Its conversations are in `history.py`."""

from __future__ import annotations

import sqlite3
import time

from msgspec import structs

from store.base import (
    Accepted,
    Conflict,
    ConversationRecord,
    Counters,
    EndedTurn,
    MessageRecord,
    NewTurn,
    NotFound,
    TurnRecord,
    Unfinished,
)
from store.database import Database
from store.history import (
    COUNTERS,
    EmbeddedHistory,
    counters,
    insert_conversation,
    insert_message,
    read_conversation,
    require_message,
    touch,
)

TURN_ID_TTL_MS = 24 * 3600 * 1000


class EmbeddedStore(EmbeddedHistory):
    """`Store` on SQLite. `path` is a file, or `:memory:` for a store that ends with the process."""

    def __init__(self, path: str) -> None:
        super().__init__(Database(path))

    async def open(self) -> None:
        """See `Store`."""
        await self._db.open()

    async def close(self) -> None:
        """See `Store`."""
        await self._db.close()

    async def accept(self, new: NewTurn) -> Accepted:
        """See `Store`."""
        return await self._db.run(_accept, new)

    async def end(self, ended: EndedTurn) -> ConversationRecord | None:
        """See `Store`."""
        return await self._db.run(_end, ended)

    async def unfinished(self) -> list[Unfinished]:
        """See `Store`."""
        return await self._db.run(_unfinished)

    async def turn(self, user: str, turn: str) -> TurnRecord:
        """See `Store`."""
        return await self._db.run(_turn, user, turn)

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """See `Store`."""
        return await self._db.run(_usage, user, conversation, since_ms)


def _record(row: sqlite3.Row) -> TurnRecord:
    return TurnRecord(
        turn=row["turn"],
        conversation=row["conversation"],
        digest=row["digest"],
        epoch=row["epoch"],
        status=row["status"],
        message=row["message"],
        parent=row["parent"],
        model=row["model"],
        seq=row["seq"],
        ending=row["ending"],
        stateless_message=row["stateless_message"],
    )


def _find(db: sqlite3.Connection, user: str, turn: str, now_ms: int) -> sqlite3.Row | None:
    """The turn's row, unless it ended more than 24 h ago."""
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM turns WHERE user = ? AND turn = ? AND (ended_ms IS NULL OR ended_ms > ?)",
        (user, turn, now_ms - TURN_ID_TTL_MS),
    ).fetchone()
    return row


def _accept(db: sqlite3.Connection, new: NewTurn) -> Accepted:
    known = _find(db, new.user, new.turn, new.now_ms)
    if known is not None:
        if known["digest"] != new.digest:
            raise Conflict(new.turn)
        return Accepted(fresh=False, turn=_record(known))
    # An id whose day is over may be used again; the old row keeps its usage under another name.
    db.execute("UPDATE turns SET turn = turn || '@' || n WHERE user = ? AND turn = ?", (new.user, new.turn))
    conversation, question, parent = (None, None, None) if new.stateless else _place(db, new)
    db.execute(
        "INSERT INTO turns (user, turn, conversation, digest, request, epoch, status, message, parent, model,"
        " revision, accepted_ms) VALUES (?, ?, ?, ?, ?, ?, 'running', ?, ?, ?, ?, ?)",
        (
            new.user,
            new.turn,
            conversation.id if conversation else None,
            new.digest,
            new.request,
            new.epoch,
            new.message,
            parent,
            new.model,
            conversation.revision if conversation else 0,
            new.now_ms,
        ),
    )
    row = _find(db, new.user, new.turn, new.now_ms)
    assert row is not None, "the row was written in this transaction"
    return Accepted(fresh=True, turn=_record(row), conversation=conversation, input=question)


def _place(db: sqlite3.Connection, new: NewTurn) -> tuple[ConversationRecord, MessageRecord | None, str | None]:
    """Make or find the conversation and store the question in it; both, and the answer's parent."""
    if new.conversation is None:
        assert new.new_conversation is not None, "a turn with a history needs a conversation"
        insert_conversation(db, new.new_conversation)
        conversation = new.new_conversation
    else:
        conversation = read_conversation(db, new.user, new.conversation)
    parent = new.parent or conversation.head
    if new.parent is not None and not new.parent_pending:
        require_message(db, new.user, conversation.id, new.parent, "parent")
    question = None
    if new.input is not None:
        question = structs.replace(new.input, parent=parent)
        insert_message(db, new.user, conversation.id, question)
        parent = question.id
    db.execute("UPDATE conversations SET title = ? WHERE id = ? AND title = ''", (new.title, conversation.id))
    touch(db, conversation.id, new.now_ms)
    return read_conversation(db, new.user, conversation.id), question, parent


def _end(db: sqlite3.Connection, ended: EndedTurn) -> ConversationRecord | None:
    row = db.execute(
        "SELECT * FROM turns WHERE user = ? AND turn = ? AND epoch = ?", (ended.user, ended.turn, ended.epoch)
    ).fetchone()
    if row is None:
        raise NotFound("turn")
    conversation = row["conversation"]
    if row["ending"] is not None:
        return None if conversation is None else read_conversation(db, ended.user, conversation)
    sums = {name: getattr(ended.usage, name) for name in COUNTERS}
    db.execute(
        "UPDATE turns SET status = ?, seq = ?, ending = ?, ended_ms = ?, request = NULL, stateless_message = ?,"
        f" {', '.join(f'{name} = ?' for name in COUNTERS)} WHERE n = ?",
        (
            ended.status,
            ended.seq,
            ended.ending,
            ended.now_ms,
            ended.answer.body if conversation is None else None,
            *sums.values(),
            row["n"],
        ),
    )
    if conversation is None:
        return None
    insert_message(db, ended.user, conversation, ended.answer)
    touch(db, conversation, ended.now_ms)
    db.execute(
        "UPDATE conversations SET head = CASE WHEN cleared_revision < ? THEN ? ELSE head END,"
        f" {', '.join(f'{name} = {name} + ?' for name in COUNTERS[:-1])},"
        " cost_nano = CASE WHEN ? IS NULL THEN cost_nano ELSE coalesce(cost_nano, 0) + ? END WHERE id = ?",
        (
            row["revision"],
            ended.answer.id,
            *(sums[name] for name in COUNTERS[:-1]),
            ended.usage.cost_nano,
            ended.usage.cost_nano,
            conversation,
        ),
    )
    return read_conversation(db, ended.user, conversation)


def _unfinished(db: sqlite3.Connection) -> list[Unfinished]:
    rows = db.execute("SELECT * FROM turns WHERE ending IS NULL ORDER BY n").fetchall()
    return [Unfinished(row["user"], _record(row)) for row in rows]


def _turn(db: sqlite3.Connection, user: str, turn: str) -> TurnRecord:
    row = _find(db, user, turn, time.time_ns() // 1_000_000)
    if row is None:
        raise NotFound("turn")
    return _record(row)


def _usage(db: sqlite3.Connection, user: str, conversation: str | None, since_ms: int | None) -> Counters:
    if conversation is not None:
        read_conversation(db, user, conversation)
    row = db.execute(
        f"SELECT {', '.join(f'sum({name}) AS {name}' for name in COUNTERS)} FROM turns"
        " WHERE user = ? AND ended_ms >= ? AND (? IS NULL OR conversation = ?)",
        (user, since_ms or 0, conversation, conversation),
    ).fetchone()
    return counters(row)
