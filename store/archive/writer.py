"""Writes batches of outbox entries in one transaction: few statements for many users, and each entry at most once.

The users' rows are locked first, so what is read afterwards doesn't change before the commit. If the database refuses an
entry for its content, the transaction is repeated in halves, until that entry is alone: it is poisoned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.database import ArchiveDatabase
from store.archive.eraser import LongRemoval, Removed, check_length, delete_messages
from store.archive.errors import archive_error, refusal_of
from store.archive.plan import Key, Plan, PlannedEntry, StoredConversation, Tally
from store.archive.records import Applied, ArchivedMessage, ArchivedTurn, OutboxBatch
from store.archive.rows import day_rows
from store.archive.write_statements import WriteStatements
from store.records import DAY_MS

OFFLOAD_BYTES = 32_768
"""If the bodies have more bytes than this together, their rows are made in a thread."""
SAME_TURN_MS_MAX = DAY_MS // 2
"""Two endings with one id that are further apart are those of two turns, because an id may be used again after 24 hours.
Clocks of instances may be hours apart."""


class Writer:
    """Writes to the archive."""

    def __init__(self, database: ArchiveDatabase) -> None:
        self._database = database
        self._statements = WriteStatements(is_postgres=database.is_postgres)

    async def apply(self, batches: list[OutboxBatch]) -> list[Applied]:
        """See `Archive.apply`."""
        results: list[Applied] = []
        for group in _groups(batches):
            results += await self._apply(group)
        return results

    async def _apply(self, batches: list[OutboxBatch]) -> list[Applied]:
        """Apply batches of different users."""
        entries = [PlannedEntry(batch.user, entry) for batch in batches for entry in batch.entries]
        size = sum(len(each.item.record.body) for each in entries if isinstance(each.item, ArchivedMessage))
        await (asyncio.to_thread(_prepare, entries) if size > OFFLOAD_BYTES else _at_once(entries))
        if not entries:
            return [Applied(user=batch.user, done=()) for batch in batches]
        by_user: dict[str, list[PlannedEntry]] = {user: [] for user in sorted({each.user for each in entries})}
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
        self, batches: list[OutboxBatch], by_user: dict[str, list[PlannedEntry]], *, in_halves: bool
    ) -> list[Applied]:
        missing: list[str] = []

        async def work(connection: AsyncConnection) -> list[Applied]:
            tallies = await self._lock(connection, list(by_user))
            missing[:] = [user for user in by_user if user not in tallies]
            if missing:
                return []
            return await self._write_all(connection, batches, by_user, tallies, in_halves=in_halves)

        while True:
            try:
                results = await self._database.write(work, raw_errors=True)
            except LongRemoval as long:
                for each in long.removed:
                    await delete_messages(self._database, each)
                continue
            if not missing:
                return results
            await self._add_users(missing)

    async def _add_users(self, users: list[str]) -> None:
        """Insert the rows of new users in a transaction of their own: one that has locks on other users must not wait here."""

        async def work(connection: AsyncConnection) -> None:
            rows = [{"user_id": user, "applied": 0, "conversation_count": 0, "stored_bytes": 0} for user in users]
            await self._statements.execute(connection, self._statements.add_user, rows)

        await self._database.write(work, raw_errors=True)

    async def _lock(self, connection: AsyncConnection, users: list[str]) -> dict[str, Tally]:
        found = await connection.execute(self._statements.lock_users, {"users": self._statements.texts(users)})
        return {row.user_id: Tally(row.applied, row.conversation_count, row.stored_bytes) for row in found}

    async def _write_all(
        self,
        connection: AsyncConnection,
        batches: list[OutboxBatch],
        by_user: dict[str, list[PlannedEntry]],
        tallies: dict[str, Tally],
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
        self, connection: AsyncConnection, entries: list[PlannedEntry], tallies: dict[str, Tally]
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

    async def _write(self, connection: AsyncConnection, entries: list[PlannedEntry], tallies: dict[str, Tally]) -> None:
        """Write entries; `tallies` is changed only if the database accepts them."""
        statements = self._statements
        plan = Plan(
            {user: Tally(each.applied, each.conversations, each.stored_bytes) for user, each in tallies.items()}
        )
        keys = list(dict.fromkeys(key for each in entries if (key := each.conversation) is not None))
        incarnations: dict[Key, str] = {}
        if keys:
            for row in await connection.execute(statements.find_conversations, statements.keys(keys)):
                plan.stored[row.user_id, row.id] = StoredConversation(row.incarnation, row.revision, row.size)
                incarnations[row.user_id, row.id] = row.incarnation
        turns = [each.row for each in entries if isinstance(each.item, ArchivedTurn)]
        if turns:
            turns = await self._new_turns(connection, turns)
        for each in entries:
            plan.add(each)
        if plan.deleted:
            stored = [(key, incarnations[key], change) for key, change in plan.deleted.items() if key in incarnations]
            await check_length(connection, [Removed(*key, incarnation, change) for key, incarnation, change in stored])
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


def _number_of(row: dict[str, Any]) -> int:
    number: int = row["number"]
    return number


def _prepare(entries: Iterable[PlannedEntry]) -> None:
    for each in entries:
        each.prepare()


async def _at_once(entries: Iterable[PlannedEntry]) -> None:
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


def _result(user: str, entries: list[PlannedEntry], tally: Tally | None) -> Applied:
    tried = [(each, each.reason or each.refused) for each in entries if not each.is_stale]
    return Applied(
        user=user,
        done=tuple(each.entry for each, reason in tried if reason is None),
        stale_until=tally.applied if tally is not None and any(each.is_stale for each in entries) else None,
        poisoned=tuple((each.entry, reason) for each, reason in tried if reason is not None),
        conversations=0 if tally is None else tally.conversations,
        stored_bytes=0 if tally is None else tally.stored_bytes,
    )
