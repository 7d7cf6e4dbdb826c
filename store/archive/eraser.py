"""Deletes everything of a user, in short steps, so that other calls run in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy import ColumnElement, Table, and_, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.api import ArchiveError
from store.archive.database import ArchiveDatabase
from store.archive.schema import messages, turns, users

ROWS_AT_ONCE = 2000
JOURNAL_TRIES = 20
JOURNAL_WAIT_S = 0.1


async def erase(database: ArchiveDatabase, user: str) -> None:
    """Delete everything of `user`. If the call is cut off, another one completes it."""
    for table in (messages, turns):
        while await database.write(_step(table, user)):
            pass

    async def rest(connection: AsyncConnection) -> None:
        await connection.execute(delete(users).where(users.c.user_id == user))

    await database.write(rest)
    if not database.is_postgres:
        await database.read(_empty_journal)


async def _empty_journal(connection: AsyncConnection) -> None:
    """Copy the journal of a SQLite file into the file and empty it: it has what was deleted. Raises `ArchiveError`."""
    for _ in range(JOURNAL_TRIES):
        done = await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        if not done.scalar_one():
            return
        await asyncio.sleep(JOURNAL_WAIT_S)
    raise ArchiveError("The archive's file is being read all the time. Stop what reads it, then erase the user again.")


def _step(table: Table, user: str) -> Callable[[AsyncConnection], Awaitable[bool]]:
    """Return the work that deletes some rows of a table and returns whether there were any."""
    some = select(table.c.id).where(table.c.user_id == user).limit(ROWS_AT_ONCE).subquery()
    named: ColumnElement[bool] = and_(table.c.user_id == user, table.c.id.in_(select(some.c.id)))

    async def work(connection: AsyncConnection) -> bool:
        # Lock the user's row first, as every transaction that writes does: so no two wait for each other.
        await connection.execute(update(users).where(users.c.user_id == user).values(applied=users.c.applied))
        return (await connection.execute(delete(table).where(named))).rowcount > 0

    return work
