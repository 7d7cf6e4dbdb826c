"""The embedded store: everything in one SQLite file, for one process. Turns are accepted and ended here.

Logs are in `log.py`, ownership is in `leases.py`, and conversations are in `history.py`.
"""

from __future__ import annotations

import sqlite3

from msgspec import structs

from store.api import conversation_channel
from store.local_pubsub import Signal, entry_signal
from store.records import (
    Accepted,
    Append,
    Appended,
    Busy,
    Conflict,
    ConversationRecord,
    Counters,
    EndedTurn,
    Fenced,
    LogEntry,
    LogGap,
    MessageRecord,
    NewTurn,
    Slots,
    TurnRecord,
)
from store.sqlite.database import Database
from store.sqlite.ephemeral import SqliteEphemeral
from store.sqlite.history import (
    COUNTERS,
    SqliteHistory,
    counters,
    insert_conversation,
    insert_message,
    read_conversation,
    require_message,
    touch,
)
from store.sqlite.leases import SqliteLeases, drop_lease, lease
from store.sqlite.limits import refuse_beyond, slots_before
from store.sqlite.log import SqliteLog
from store.sqlite.permits import SqlitePermits
from store.sqlite.rates import SqliteRates
from store.sqlite.turns import clock_ms, find_record, read_record, require, running_among, running_in, running_of


class SqliteStore(SqliteLeases, SqliteHistory, SqliteEphemeral, SqliteRates, SqlitePermits):
    """A `Store` on SQLite. `path` is a file, or `:memory:` for a store that ends with the process.

    A turn's log is kept until `log_ttl_s` after its ending; the history doesn't expire.
    """

    shared = False

    def __init__(self, path: str, *, log_ttl_s: float = 600) -> None:
        database = Database(path)
        SqliteLeases.__init__(self, database)
        SqliteHistory.__init__(self, database)
        SqliteEphemeral.__init__(self, database)
        SqliteRates.__init__(self)
        SqlitePermits.__init__(self)
        self._log = SqliteLog(log_ttl_s)

    async def open(self) -> None:
        """See `Store`."""
        await self._db.open()

    async def close(self) -> None:
        """See `Store`."""
        await self._db.close()

    async def ping(self) -> None:
        """See `Store`."""
        await self.put_ephemeral("ping", b"", 0)  # write something, because a full disk can still be read

    async def accept(self, new: NewTurn) -> Accepted:
        """See `Store`."""
        return await self._db.run_then(self._publish, _accept, new)

    async def append(self, appends: list[Append]) -> list[Appended]:
        """See `Store`."""
        return await self._db.run_then(self._publish_entries, self._log.append, appends)

    async def end(self, ended: EndedTurn) -> ConversationRecord | None:
        """See `Store`."""
        return await self._db.run_then(self._publish, _end, self._log, ended)

    async def turn(self, user: str, turn: str, *, with_request: bool = False) -> TurnRecord:
        """See `Store`."""
        return await self._db.run(read_record, user, turn, with_request=with_request)

    async def running(self, user: str, turns: list[str]) -> list[bool | None]:
        """See `Store`."""
        return await self._db.run(running_among, user, turns)

    async def log(self, user: str, turn: str, after: int) -> list[LogEntry]:
        """See `Store`."""
        return await self._db.run(self._log.read, user, turn, after)

    async def active(self, user: str, conversation: str | None) -> list[str]:
        """See `Store`."""
        return await self._db.run(_active, user, conversation)

    async def running_groups(self, user: str, turn: str, running: int) -> Slots:
        """See `Store`."""
        return await self._db.run(slots_before, user, turn, running)

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """See `Store`."""
        return await self._db.run(_usage, user, conversation, since_ms)


def _accept(db: sqlite3.Connection, new: NewTurn) -> tuple[Accepted, list[Signal]]:
    known = find_record(db, new.user, new.turn)
    if known is not None:
        if known.digest != new.digest:
            raise Conflict(new.turn)
        return Accepted(fresh=False, turn=known), []
    refuse_beyond(db, new)
    epoch = _retire_id(db, new)
    conversation, question, parent, ahead = (None, None, None, ()) if new.stateless else _place(db, new)
    n = db.execute(
        "INSERT INTO turns (user, turn, conversation, epoch, owner, status, message, input, parent, model,"
        " revision, accepted_ms, digest, request) VALUES (?, ?, ?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.user,
            new.turn,
            conversation.id if conversation else None,
            epoch,
            new.owner,
            new.message,
            question.id if question else None,
            parent,
            new.model,
            conversation.revision if conversation else 0,
            new.now_ms,
            new.digest,
            new.request,
        ),
    ).lastrowid
    assert n is not None, "the row was written in this transaction"
    lease(db, n, new.lease_ms)
    if conversation is not None and new.on_busy == "queue":
        db.execute("INSERT INTO queues (turn) VALUES (?)", (n,))
    slots = () if new.limits is None else slots_before(db, new.user, new.turn, new.limits.running)
    turn = structs.replace(read_record(db, new.user, new.turn), request=new.request)
    signals = [(conversation_channel(new.user, conversation.id), new.turn.encode())] if conversation else []
    return Accepted(fresh=True, turn=turn, conversation=conversation, input=question, ahead=ahead, slots=slots), signals


def _retire_id(db: sqlite3.Connection, new: NewTurn) -> int:
    """Free a turn id that was used more than 24 h ago, and return the epoch in which the new turn begins.

    The old row keeps the usage under another id.
    """
    old = db.execute("SELECT n, epoch FROM turns WHERE user = ? AND turn = ?", (new.user, new.turn)).fetchone()
    if old is None:
        return new.epoch
    # A client's id can't contain an @, so the new id is never taken.
    db.execute("UPDATE turns SET turn = turn || '@' || n WHERE n = ?", (old["n"],))
    return max(new.epoch, int(old["epoch"]) + 1)


def _place(
    db: sqlite3.Connection, new: NewTurn
) -> tuple[ConversationRecord, MessageRecord | None, str | None, tuple[str, ...]]:
    """Create or find the conversation and store the question in it.

    Return the conversation, the question, the answer's parent, and the ids of the turns ahead. Raises `Busy` and
    `NotFound`.
    """
    if new.conversation is None:
        assert new.new_conversation is not None, "a turn with a history needs a conversation"
        insert_conversation(db, new.new_conversation)
        conversation = new.new_conversation
    else:
        conversation = read_conversation(db, new.user, new.conversation)
    others = [] if new.on_busy == "parallel" else running_in(db, conversation)
    if others and new.on_busy == "reject":
        raise Busy("The conversation has a running turn.")
    if new.parent is not None:
        require_message(db, new.user, conversation.id, new.parent, "parent")
        parent: str | None = new.parent
    else:
        # Each running turn's answer will become the head in its order, except for turns from before a clear.
        following = [other["message"] for other in others if other["moves_head"]]
        parent = following[-1] if following else conversation.head
    question = None
    if new.input is not None:
        question = structs.replace(new.input, parent=parent)
        insert_message(db, new.user, conversation.id, question)
        parent = question.id
    db.execute("UPDATE conversations SET title = ? WHERE id = ? AND title = ''", (new.title, conversation.id))
    touch(db, conversation.id, new.now_ms)
    ahead = tuple(other["turn"] for other in others)
    return read_conversation(db, new.user, conversation.id), question, parent, ahead


def _end(db: sqlite3.Connection, log: SqliteLog, ended: EndedTurn) -> tuple[ConversationRecord | None, list[Signal]]:
    row = require(db, ended.user, ended.turn)
    if row["epoch"] != ended.epoch:
        raise Fenced(f"the turn is in epoch {row['epoch']}")
    conversation = row["conversation"]
    if row["stored_ms"] is not None:
        return None if conversation is None else read_conversation(db, ended.user, conversation), []
    written, fresh = log.add(db, ended.events)
    signals = [entry_signal(ended.events)] if fresh else []
    if written.outcome != "stored" or written.end != ended.events.last:
        raise LogGap(written.end)
    db.execute(
        "UPDATE turns SET status = ?, seq = ?, ending = ?, ended_ms = ?, stored_ms = ?, request = NULL,"
        f" stateless_message = ?, {', '.join(f'{name} = ?' for name in COUNTERS)} WHERE n = ?",
        (
            ended.status,
            ended.events.last,
            ended.ending,
            ended.now_ms,
            clock_ms(),
            ended.answer.body if _stateless(row) else None,
            *(getattr(ended.usage, name) for name in COUNTERS),
            row["n"],
        ),
    )
    drop_lease(db, row["n"])
    db.execute("DELETE FROM queues WHERE turn = ?", (row["n"],))
    log.sweep(db)
    return None if conversation is None else _answer(db, conversation, row["revision"], ended), signals


def _stateless(row: sqlite3.Row) -> bool:
    """Return whether the turn never had a conversation, as opposed to one that was deleted.

    Accepting a turn in a conversation raises the revision and stores it in the turn's row, so that it isn't 0.
    """
    return row["conversation"] is None and row["revision"] == 0


def _answer(db: sqlite3.Connection, conversation: str, revision: int, ended: EndedTurn) -> ConversationRecord:
    """Store the answer in the history, add its usage, and return the conversation.

    The answer becomes the head, unless the conversation was cleared after the turn was accepted.
    """
    insert_message(db, ended.user, conversation, ended.answer)
    touch(db, conversation, ended.now_ms)
    sums = [getattr(ended.usage, name) for name in COUNTERS[:-1]]
    cost = ended.usage.cost_nano
    db.execute(
        "UPDATE conversations SET head = CASE WHEN cleared_revision < ? THEN ? ELSE head END,"
        f" {', '.join(f'{name} = {name} + ?' for name in COUNTERS[:-1])},"
        " cost_nano = CASE WHEN ? IS NULL THEN cost_nano ELSE coalesce(cost_nano, 0) + ? END WHERE id = ?",
        (revision, ended.answer.id, *sums, cost, cost, conversation),
    )
    return read_conversation(db, ended.user, conversation)


def _active(db: sqlite3.Connection, user: str, conversation: str | None) -> list[str]:
    if conversation is None:
        return running_of(db, user)
    return [row["turn"] for row in running_in(db, read_conversation(db, user, conversation))]


def _usage(db: sqlite3.Connection, user: str, conversation: str | None, since_ms: int | None) -> Counters:
    if conversation is not None:
        read_conversation(db, user, conversation)
    row = db.execute(
        f"SELECT {', '.join(f'sum({name}) AS {name}' for name in COUNTERS)} FROM turns"
        " WHERE user = ? AND ended_ms >= ? AND (? IS NULL OR conversation = ?)",
        (user, since_ms or 0, conversation, conversation),
    ).fetchone()
    return counters(row)
