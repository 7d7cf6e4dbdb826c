"""Writes batches of outbox entries in one transaction: few statements for many users, and each entry at most once.

The users' rows are locked first, so what is read afterwards doesn't change before the commit. If the database refuses an
entry for its content, the transaction is repeated in halves, until that entry is alone: it is poisoned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.database import ArchiveDatabase
from store.archive.errors import archive_error, refusal_of
from store.archive.records import (
    Applied,
    ArchivedConversation,
    ArchivedMessage,
    ArchivedTurn,
    OutboxBatch,
    OutboxEntry,
    OutboxItem,
    RemovedConversation,
)
from store.archive.rows import (
    conversation_row,
    day_rows,
    feedback_row,
    message_row,
    placeholder_row,
    refusal,
    turn_row,
)
from store.archive.statements import Statements
from store.records import DAY_MS

OFFLOAD_BYTES = 32_768
"""If the bodies have more bytes than this together, their rows are made in a thread."""
SAME_TURN_MS_MAX = DAY_MS // 2
"""Two endings with one id that are further apart are those of two turns, because an id may be used again after 24 hours.
Clocks of instances may be hours apart."""
Key = tuple[str, str]


class Writer:
    """Writes to the archive."""

    def __init__(self, database: ArchiveDatabase) -> None:
        self._database = database
        self._statements = Statements(is_postgres=database.is_postgres)

    async def apply(self, batches: list[OutboxBatch]) -> list[Applied]:
        """See `Archive.apply`."""
        results: list[Applied] = []
        for group in _groups(batches):
            results += await self._apply(group)
        return results

    async def _apply(self, batches: list[OutboxBatch]) -> list[Applied]:
        """Apply batches of different users."""
        entries = [_Entry(batch.user, entry) for batch in batches for entry in batch.entries]
        size = sum(len(each.item.record.body) for each in entries if isinstance(each.item, ArchivedMessage))
        await (asyncio.to_thread(_prepare, entries) if size > OFFLOAD_BYTES else _at_once(entries))
        if not entries:
            return [Applied(user=batch.user, done=()) for batch in batches]
        by_user: dict[str, list[_Entry]] = {user: [] for user in sorted({each.user for each in entries})}
        for each in entries:
            by_user[each.user].append(each)
        try:
            return await self._transaction(batches, by_user, in_halves=False)
        except DBAPIError as error:
            if refusal_of(error) is None:
                raise archive_error(error) from None
        try:
            return await self._transaction(batches, by_user, in_halves=True)
        except DBAPIError as error:
            raise archive_error(error) from None

    async def _transaction(
        self, batches: list[OutboxBatch], by_user: dict[str, list[_Entry]], *, in_halves: bool
    ) -> list[Applied]:
        missing: list[str] = []

        async def work(connection: AsyncConnection) -> list[Applied]:
            tallies = await self._lock(connection, list(by_user))
            missing[:] = [user for user in by_user if user not in tallies]
            if missing:
                return []
            return await self._write_all(connection, batches, by_user, tallies, in_halves=in_halves)

        while True:
            results = await self._database.write(work, raw_errors=True)
            if not missing:
                return results
            await self._add_users(missing)

    async def _add_users(self, users: list[str]) -> None:
        """Insert the rows of new users in a transaction of their own, so that none waits while it has locks on other users."""

        async def work(connection: AsyncConnection) -> None:
            rows = [{"user_id": user, "applied": 0, "conversation_count": 0, "stored_bytes": 0} for user in users]
            await self._statements.execute(connection, self._statements.add_user, rows)

        await self._database.write(work, raw_errors=True)

    async def _lock(self, connection: AsyncConnection, users: list[str]) -> dict[str, _Tally]:
        found = await connection.execute(self._statements.lock_users, {"users": self._statements.texts(users)})
        return {row.user_id: _Tally(row.applied, row.conversation_count, row.stored_bytes) for row in found}

    async def _write_all(
        self,
        connection: AsyncConnection,
        batches: list[OutboxBatch],
        by_user: dict[str, list[_Entry]],
        tallies: dict[str, _Tally],
        *,
        in_halves: bool,
    ) -> list[Applied]:
        """Write the entries that are new, and return the results."""
        for each in (each for entries in by_user.values() for each in entries):
            each.is_stale, each.refused = each.entry.change <= tallies[each.user].applied, None
        new = [each for entries in by_user.values() for each in entries if not each.is_stale and each.reason is None]
        if in_halves:
            await self._write_in_halves(connection, new, tallies)
        else:
            await self._write(connection, new, tallies)
        changed = [
            {
                "key_user": user,
                "new_applied": max(each.entry.change for each in entries),
                "new_conversation_count": tallies[user].conversations,
                "new_stored_bytes": tallies[user].stored_bytes,
            }
            for user, entries in by_user.items()
            if not all(each.is_stale for each in entries)
        ]
        if changed:
            await self._statements.execute(connection, self._statements.update_user, changed)
        return [_result(batch.user, by_user.get(batch.user, []), tallies.get(batch.user)) for batch in batches]

    async def _write_in_halves(
        self, connection: AsyncConnection, entries: list[_Entry], tallies: dict[str, _Tally]
    ) -> None:
        try:
            async with connection.begin_nested():
                await self._write(connection, entries, tallies)
            return
        except DBAPIError as error:
            reason = refusal_of(error)
            if reason is None:
                raise
        if len(entries) == 1:
            entries[0].refused = reason
            return
        middle = len(entries) // 2
        await self._write_in_halves(connection, entries[:middle], tallies)
        await self._write_in_halves(connection, entries[middle:], tallies)

    async def _write(self, connection: AsyncConnection, entries: list[_Entry], tallies: dict[str, _Tally]) -> None:
        """Write entries; `tallies` is changed only if the database accepts them."""
        statements = self._statements
        plan = _Plan(
            {user: _Tally(each.applied, each.conversations, each.stored_bytes) for user, each in tallies.items()}
        )
        keys = list(dict.fromkeys(key for each in entries if (key := each.conversation) is not None))
        if keys:
            for row in await connection.execute(statements.find_conversations, statements.keys(keys)):
                plan.stored[row.user_id, row.id] = _Stored(row.incarnation, row.revision, row.size)
        turns = [each.row for each in entries if isinstance(each.item, ArchivedTurn)]
        if turns:
            turns = await self._new_turns(connection, turns)
        for each in entries:
            plan.add(each)
        messages = [each.row for each in entries if isinstance(each.item, ArchivedMessage)]
        messages.sort(key=_number_of)  # a parent comes first
        if not self._database.is_postgres:
            messages = [{name: value for name, value in row.items() if name != "terms"} for row in messages]
        for statement, rows in (
            (statements.delete_conversation, [{"key_user": user, "key_id": key} for user, key in plan.deleted]),
            (statements.put_conversation, list(plan.conversations.values())),
            (statements.add_placeholder, list(plan.placeholders.values())),
            (statements.put_message, messages),
            (statements.put_feedback, [each.feedback for each in entries if each.feedback is not None]),
            (statements.add_turn, turns),
            (statements.count_day, day_rows(turns)),
        ):
            if rows:
                await statements.execute(connection, statement, rows)
        tallies |= plan.tallies

    async def _new_turns(self, connection: AsyncConnection, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows of those turns that aren't stored yet.

        A client may use a turn's id again a day after its ending. The row of such a turn gets another id.
        """
        new, again = await self._divide(connection, turns)
        if again:
            renamed = [{**row, "id": f"{row['id']}~{row['ended_at']}"} for row in again]
            new += (await self._divide(connection, renamed))[0]
        return new

    async def _divide(self, connection: AsyncConnection, turns: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
        """Return those turns whose ids are new, and those that ended long after the stored turn with the same id."""
        pairs = [(row["user_id"], row["id"]) for row in turns]
        found = await connection.execute(self._statements.find_turns, self._statements.keys(pairs))
        ended_ms: dict[Key, int] = {(row.user_id, row.id): row.ended_at for row in found}
        new, again = list[Any](), list[Any]()
        for row in turns:
            key = row["user_id"], row["id"]
            if key not in ended_ms:
                ended_ms[key] = row["ended_at"]
                new.append(row)
            elif row["ended_at"] - ended_ms[key] > SAME_TURN_MS_MAX:
                again.append(row)
        return new, again


class _Tally(Struct):
    """The row of a user."""

    applied: int
    conversations: int
    stored_bytes: int


class _Stored(Struct):
    """The part of a conversation's row that decides about a new one."""

    incarnation: str
    revision: int
    size: int


class _Entry(Struct, eq=False):
    """An entry with its row. `reason`: why no database can hold it. `refused`: why this one doesn't."""

    user: str
    entry: OutboxEntry
    row: dict[str, Any] = field(default_factory=dict)
    feedback: dict[str, Any] | None = None
    reason: str | None = None
    refused: str | None = None
    is_stale: bool = False

    @property
    def item(self) -> ArchivedConversation | ArchivedMessage | ArchivedTurn | RemovedConversation | None:
        """The state that the entry stores."""
        return self.entry.item

    @property
    def conversation(self) -> Key | None:
        """The conversation that the entry changes."""
        match self.item:
            case ArchivedConversation(record=record):
                return self.user, record.id
            case ArchivedMessage(conversation=conversation) | RemovedConversation(conversation=conversation):
                return self.user, conversation
        return None

    def prepare(self) -> None:
        """Make the row."""
        item = self.item
        if item is None or (reason := refusal(item)) is not None:
            self.reason = None if item is None else reason
            return
        try:
            self._make_row(item)
        except Exception as error:  # whatever it is, the other entries must not wait for this one
            self.reason = f"it can't be made a row ({type(error).__name__})"

    def _make_row(self, item: OutboxItem) -> None:
        match item:
            case ArchivedConversation():
                self.row = conversation_row(self.user, item)
            case ArchivedMessage():
                self.row = message_row(self.user, item)
                self.feedback = feedback_row(self.user, item) if item.record.rating is not None else None
            case ArchivedTurn():
                self.row = turn_row(self.user, item)


class _Plan:
    """The rows to write to `conversations`. `stored`: those that the database has, or will have."""

    def __init__(self, tallies: dict[str, _Tally]) -> None:
        self.tallies = tallies
        self.stored: dict[Key, _Stored] = {}
        self.deleted: dict[Key, None] = {}
        self.conversations: dict[Key, dict[str, Any]] = {}
        self.placeholders: dict[Key, dict[str, Any]] = {}

    def add(self, each: _Entry) -> None:
        """Add an entry, after those with smaller numbers."""
        key = each.conversation
        if key is None:
            return
        stored = self.stored.get(key)
        match each.item:
            case RemovedConversation(incarnation=incarnation):
                if stored is not None and stored.incarnation in {"", incarnation}:
                    self._delete(key, stored)
            case ArchivedConversation(incarnation=incarnation, record=record, size=size):
                stored = self._same(key, incarnation)
                if stored is None or stored.revision <= record.revision:
                    self.conversations[key] = each.row
                    self._store(key, _Stored(incarnation, record.revision, size))
            case ArchivedMessage(incarnation=incarnation) as item:
                if self._same(key, incarnation) is None:
                    self.placeholders[key] = placeholder_row(each.user, item, each.entry.change)
                    self._store(key, _Stored(incarnation or "", 0, 0))

    def _same(self, key: Key, incarnation: str | None) -> _Stored | None:
        """Return the row of this incarnation. A row of an earlier one is deleted."""
        stored = self.stored.get(key)
        if stored is None or not incarnation or stored.incarnation in {"", incarnation}:
            return stored
        self._delete(key, stored)
        return None

    def _delete(self, key: Key, stored: _Stored) -> None:
        del self.stored[key]
        self.deleted[key] = None
        self.conversations.pop(key, None)
        self.placeholders.pop(key, None)
        tally = self.tallies[key[0]]
        tally.conversations -= 1
        tally.stored_bytes -= stored.size

    def _store(self, key: Key, new: _Stored) -> None:
        old, tally = self.stored.get(key), self.tallies[key[0]]
        tally.conversations += old is None
        tally.stored_bytes += new.size - (0 if old is None else old.size)
        self.stored[key] = new


def _number_of(row: dict[str, Any]) -> int:
    number: int = row["number"]
    return number


def _prepare(entries: Iterable[_Entry]) -> None:
    for each in entries:
        each.prepare()


async def _at_once(entries: Iterable[_Entry]) -> None:
    _prepare(entries)


def _groups(batches: list[OutboxBatch]) -> list[list[OutboxBatch]]:
    """Return the batches in groups in which no user is twice, in order. There is one group if no user is twice at all."""
    groups: list[list[OutboxBatch]] = []
    users: set[str] = set()
    for batch in batches:
        if not groups or batch.user in users:
            groups.append([])
            users.clear()
        users.add(batch.user)
        groups[-1].append(batch)
    return groups


def _result(user: str, entries: list[_Entry], tally: _Tally | None) -> Applied:
    tried = [(each, each.reason or each.refused) for each in entries if not each.is_stale]
    return Applied(
        user=user,
        done=tuple(each.entry for each, reason in tried if reason is None),
        stale_until=tally.applied if tally is not None and any(each.is_stale for each in entries) else None,
        poisoned=tuple((each.entry, reason) for each, reason in tried if reason is not None),
        conversations=0 if tally is None else tally.conversations,
        stored_bytes=0 if tally is None else tally.stored_bytes,
    )
