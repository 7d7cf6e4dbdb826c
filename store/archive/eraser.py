"""Deletes, in short steps, all data of a user and long conversations, so that other calls run in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.api import ArchiveError
from store.archive.database import ArchiveDatabase
from store.archive.schema import conversations, messages, turns, users
from store.errors import StoreError

STEP_ROWS = 2000
"""How many rows a step deletes at most."""
STEP_BYTES = 2**26
"""A step stops sooner if the bodies of the messages that it deletes have more bytes than this together."""
JOURNAL_TRIES = 20
JOURNAL_WAIT_S = 0.1


class Removed(Struct, frozen=True):
    """A stored conversation that an entry of its user's outbox removes. `change`: the number of the entry."""

    user: str
    conversation: str
    incarnation: str
    change: int


class LongRemoval(StoreError):
    """A transaction was about to delete too much. Call `delete_messages` for each of `removed`, then repeat it."""

    def __init__(self, removed: Sequence[Removed]) -> None:
        super().__init__("Conversations are too long to be deleted at once. Delete their messages first.")
        self.removed = removed


async def erase(database: ArchiveDatabase, user: str) -> None:
    """Delete everything of `user`. If the call is cut off, another one completes it."""

    async def some_messages(connection: AsyncConnection) -> bool:
        await _lock(connection, user)
        return await _delete_some(connection, messages.c.user_id == user)

    async def some_turns(connection: AsyncConnection) -> bool:
        await _lock(connection, user)
        some = select(turns.c.id).where(turns.c.user_id == user).limit(STEP_ROWS)
        deleted = await connection.execute(delete(turns).where(turns.c.user_id == user, turns.c.id.in_(some)))
        return deleted.rowcount > 0

    async def rest(connection: AsyncConnection) -> None:
        await connection.execute(delete(users).where(users.c.user_id == user))

    for step in (some_messages, some_turns):
        while await database.write(step):
            pass
    await database.write(rest)
    if not database.is_postgres:
        await database.read(_empty_journal)


async def check_length(connection: AsyncConnection, removed: Sequence[Removed]) -> None:
    """Raise `LongRemoval` if the conversations have more messages than one step deletes."""
    rows = size = 0
    for each in removed:
        newest = _some(messages.c.user_id == each.user, messages.c.conversation_id == each.conversation).subquery()
        found = (await connection.execute(select(func.count(), func.sum(newest.c.size)).select_from(newest))).one()
        rows += found[0]
        size += int(found[1] or 0)
        if rows >= STEP_ROWS or size > STEP_BYTES:
            raise LongRemoval(removed)


async def delete_messages(database: ArchiveDatabase, removed: Removed) -> None:
    """Delete the messages of a conversation. Stop if another one has its id now, or if another instance has removed it."""
    stored = exists().where(
        conversations.c.user_id == removed.user,
        conversations.c.id == removed.conversation,
        conversations.c.incarnation == removed.incarnation,
    )

    async def step(connection: AsyncConnection) -> bool:
        if not await _lock(connection, removed.user, users.c.applied < removed.change):
            return False
        of_conversation = messages.c.conversation_id == removed.conversation
        return await _delete_some(connection, messages.c.user_id == removed.user, of_conversation, stored)

    while await database.write(step):
        pass


async def _lock(connection: AsyncConnection, user: str, *conditions: ColumnElement[bool]) -> bool:
    """Lock the user's row and return whether there is one that meets `conditions`.

    Every transaction that writes does this first: so no two wait for each other.
    """
    locked = update(users).where(users.c.user_id == user, *conditions).values(applied=users.c.applied)
    return (await connection.execute(locked)).rowcount > 0


def _some(*conditions: ColumnElement[bool]) -> Select[tuple[str, int]]:
    return select(messages.c.id, messages.c.size).where(*conditions).limit(STEP_ROWS)


async def _delete_some(connection: AsyncConnection, owner: ColumnElement[bool], *others: ColumnElement[bool]) -> bool:
    """Delete some messages of the user `owner` names, and return whether there were any."""
    some = _some(owner, *others).subquery()
    summed = select(some.c.id, some.c.size, func.sum(some.c.size).over(order_by=some.c.id).label("total")).subquery()
    named = select(summed.c.id).where(summed.c.total - summed.c.size <= STEP_BYTES)
    return (await connection.execute(delete(messages).where(owner, messages.c.id.in_(named)))).rowcount > 0


async def _empty_journal(connection: AsyncConnection) -> None:
    """Copy the journal of a SQLite file into the file and empty it: it has what was deleted. Raises `ArchiveError`."""
    for _ in range(JOURNAL_TRIES):
        done = await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        if not done.scalar_one():
            return
        await asyncio.sleep(JOURNAL_WAIT_S)
    raise ArchiveError("The archive's file is being read all the time. Stop what reads it, then erase the user again.")
