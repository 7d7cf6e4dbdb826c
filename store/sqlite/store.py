"""The SQLite store, for one process: all durable data is in one file. Turns are accepted and ended here.

Logs are in `log.py`, ownership is in `leases.py`, and conversations are in `history.py`.
"""

from __future__ import annotations

import sqlite3

from msgspec import structs

from store.api import conversation_channel
from store.errors import Busy, Conflict, Fenced, LogGap
from store.local_pubsub import Publication, entry_publication, list_publication
from store.records import (
    Accepted,
    Append,
    Appended,
    ConversationRecord,
    EndedTurn,
    LogEntry,
    MessageRecord,
    NewTurn,
    RunningGroups,
    TurnRecord,
)
from store.sqlite.database import Database
from store.sqlite.erasure import SqliteErasure
from store.sqlite.feedback import SqliteFeedback
from store.sqlite.history import (
    COUNTERS,
    SqliteHistory,
    check_message,
    conversation_by_key,
    get_conversation,
    get_key,
    insert_conversation,
    insert_message,
    touch_conversation,
)
from store.sqlite.leases import SqliteLeases, delete_lease, put_lease
from store.sqlite.limits import check_limits, creates_conversation, running_groups
from store.sqlite.log import SqliteLog
from store.sqlite.turns import (
    are_running,
    clock_ms,
    find_record,
    get_record,
    get_row,
    running_in_conversation,
    running_of_user,
)
from store.sqlite.usage import SqliteUsage


class SqliteStore(SqliteLeases, SqliteHistory, SqliteFeedback, SqliteUsage, SqliteErasure):
    """A `Store` on SQLite. `path` is a file, or `:memory:` for a store that ends with the process.

    A turn's log is kept until `log_ttl_s` after its ending; the history doesn't expire.
    """

    shared = False

    def __init__(self, path: str, *, log_ttl_s: float = 600) -> None:
        super().__init__(Database(path))
        self._log = SqliteLog(log_ttl_s, self._db.flushes)

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
        """See `TurnStore`."""
        return await self._db.run_then(self._publish, _accept, new)

    async def append(self, appends: list[Append]) -> list[Appended]:
        """See `TurnStore`."""
        return await self._db.run_then(self._publish_entries, self._log.append, appends)

    async def end(self, ended: EndedTurn) -> ConversationRecord | None:
        """See `TurnStore`."""
        return await self._db.run_then(self._publish, _end, self._log, ended)

    async def delete_conversation(self, user: str, conversation: str) -> list[str]:
        """See `HistoryStore`."""
        running = await super().delete_conversation(user, conversation)
        self.note_removed()
        return running

    async def turn(self, user: str, turn: str, *, with_request: bool = False) -> TurnRecord:
        """See `TurnStore`."""
        return await self._db.run(get_record, user, turn, with_request=with_request)

    async def running(self, user: str, turns: list[str]) -> list[bool | None]:
        """See `TurnStore`."""
        return await self._db.run(are_running, user, turns)

    async def log(self, user: str, turn: str, after: int) -> list[LogEntry]:
        """See `TurnStore`."""
        return await self._db.run(self._log.read, user, turn, after)

    async def active(self, user: str, conversation: str | None) -> list[str]:
        """See `TurnStore`."""
        return await self._db.run(_active, user, conversation)

    async def running_groups(self, user: str, turn: str, running_max: int) -> RunningGroups:
        """See `TurnStore`."""
        return await self._db.run(running_groups, user, turn, running_max)


def _accept(db: sqlite3.Connection, new: NewTurn) -> tuple[Accepted, list[Publication]]:
    existing = find_record(db, new.user, new.turn)
    if existing is not None:
        if existing.digest != new.digest:
            raise Conflict
        return Accepted(is_new=False, turn=existing), []
    check_limits(db, new)
    epoch = _free_id(db, new)
    conversation, input_message, parent, ahead = (
        (None, None, None, ()) if new.stateless else _add_to_conversation(db, new)
    )
    values = {
        **structs.asdict(new),
        "conversation": conversation and get_key(db, new.user, conversation.id),
        "epoch": epoch,
        "input": input_message and input_message.id,
        "parent": parent,
        "revision": conversation.revision if conversation else 0,
    }
    n = db.execute(
        "INSERT INTO turns (user, turn, conversation, epoch, owner, status, message, input, parent, model, revision,"
        " accepted_ms, digest, request) VALUES (:user, :turn, :conversation, :epoch, :owner, 'running', :message,"
        " :input, :parent, :model, :revision, :now_ms, :digest, :request)",
        values,
    ).lastrowid
    assert n is not None, "the row was written in this transaction"
    put_lease(db, n, new.lease_ms)
    if conversation is not None and new.on_busy == "queue":
        db.execute("INSERT INTO queues (turn) VALUES (?)", (n,))
    accepted = Accepted(
        is_new=True,
        turn=structs.replace(get_record(db, new.user, new.turn), request=new.request),
        conversation=conversation,
        input=input_message,
        ahead=ahead,
        running_groups=() if new.limits is None else running_groups(db, new.user, new.turn, new.limits.running),
    )
    if conversation is None:
        return accepted, []
    channel = conversation_channel(new.user, conversation.id)
    return accepted, [(channel, new.turn.encode()), list_publication(new.user, conversation.id)]


def _free_id(db: sqlite3.Connection, new: NewTurn) -> int:
    """Free a turn id that was used more than 24 h ago, and return the epoch in which the new turn begins.

    The old row keeps the usage under another id.
    """
    row = db.execute("SELECT n, epoch FROM turns WHERE user = ? AND turn = ?", (new.user, new.turn)).fetchone()
    if row is None:
        return new.epoch
    # A client's id can't contain an @, so the new id is never taken.
    db.execute("UPDATE turns SET turn = turn || '@' || n WHERE n = ?", (row["n"],))
    return max(new.epoch, int(row["epoch"]) + 1)


def _add_to_conversation(
    db: sqlite3.Connection, new: NewTurn
) -> tuple[ConversationRecord, MessageRecord | None, str | None, tuple[str, ...]]:
    """Find or create the conversation and store the turn's input in it.

    Return the conversation, the input message, the answer's parent, and the ids of the turns ahead. Raises `Busy` and
    `NotFound`.
    """
    if creates_conversation(db, new):
        assert new.new_conversation is not None, "it is the conversation that is created"
        insert_conversation(db, new.new_conversation)
    name = new.conversation_id
    assert name is not None, "a turn with a history has a conversation"
    key, conversation = get_key(db, new.user, name), get_conversation(db, new.user, name)
    others = [] if new.on_busy == "parallel" else running_in_conversation(db, new.user, key)
    if others and new.on_busy == "reject":
        raise Busy("the conversation has a running turn")
    if new.parent is not None:
        check_message(db, new.user, key, new.parent, "parent")
        parent: str | None = new.parent
    else:
        # The answers of the running turns will become the head in this order, except those of turns from before a clear.
        following = [other["message"] for other in others if other["moves_head"]]
        parent = following[-1] if following else conversation.head
    input_message = None
    if new.input is not None:
        input_message = structs.replace(new.input, parent=parent)
        insert_message(db, new.user, key, input_message)
        parent = input_message.id
    db.execute("UPDATE conversations SET title = ? WHERE key = ? AND title = ''", (new.title, key))
    if new.limits is not None:  # not if a turn that the store had lost is accepted again
        db.execute(
            "UPDATE conversations SET retention_days = ?1 WHERE key = ?2 AND retention_days IS NOT ?1",
            (new.retention_days, key),
        )
    touch_conversation(db, key, new.now_ms)
    ahead = tuple(other["turn"] for other in others)
    return conversation_by_key(db, key), input_message, parent, ahead


def _end(
    db: sqlite3.Connection, log: SqliteLog, ended: EndedTurn
) -> tuple[ConversationRecord | None, list[Publication]]:
    row = get_row(db, ended.user, ended.turn)
    if row["epoch"] != ended.epoch:
        raise Fenced(f"the turn is in epoch {row['epoch']}")
    key = row["conversation"]
    if row["stored_ms"] is not None:
        return None if key is None else conversation_by_key(db, key), []
    if ended.events.last == row["seq"] and ended.events.first == row["seq"] + 1:
        written, is_new = Appended("stored", row["seq"]), False
    else:
        written, is_new = log.add(db, ended.events)
    publications = [entry_publication(ended.events)] if is_new else []
    if written.outcome != "stored" or written.end != ended.events.last:
        raise LogGap(written.end)
    # A turn that was accepted in a conversation has a revision above 0, even if the conversation was deleted.
    is_stateless = key is None and row["revision"] == 0
    db.execute(
        "UPDATE turns SET status = ?, seq = ?, ending = ?, ended_ms = ?, stored_ms = ?, request = NULL,"
        f" stateless_message = ?, {', '.join(f'{name} = ?' for name in COUNTERS)} WHERE n = ?",
        (
            ended.status,
            ended.events.last,
            ended.ending,
            ended.now_ms,
            clock_ms(),
            ended.answer.body if is_stateless else None,
            *(getattr(ended.usage, name) for name in COUNTERS),
            row["n"],
        ),
    )
    delete_lease(db, row["n"])
    db.execute("DELETE FROM queues WHERE turn = ?", (row["n"],))
    log.sweep(db)
    if key is None:
        return None, publications
    conversation = _add_answer(db, key, row["revision"], ended)
    return conversation, [*publications, list_publication(ended.user, conversation.id)]


def _add_answer(db: sqlite3.Connection, key: str, revision: int, ended: EndedTurn) -> ConversationRecord:
    """Store the answer in the conversation with this key, add its usage, and return the conversation.

    The answer becomes the head, unless the conversation was cleared after the turn was accepted.
    """
    insert_message(db, ended.user, key, ended.answer)
    touch_conversation(db, key, ended.now_ms)
    sums = [getattr(ended.usage, name) for name in COUNTERS[:-1]]
    cost = ended.usage.cost_nano
    db.execute(
        "UPDATE conversations SET head = CASE WHEN cleared_revision < ? THEN ? ELSE head END,"
        f" {', '.join(f'{name} = {name} + ?' for name in COUNTERS[:-1])},"
        " cost_nano = CASE WHEN ? IS NULL THEN cost_nano ELSE coalesce(cost_nano, 0) + ? END WHERE key = ?",
        (revision, ended.answer.id, *sums, cost, cost, key),
    )
    return conversation_by_key(db, key)


def _active(db: sqlite3.Connection, user: str, conversation: str | None) -> list[str]:
    if conversation is None:
        return running_of_user(db, user)
    return [row["turn"] for row in running_in_conversation(db, user, get_key(db, user, conversation))]
