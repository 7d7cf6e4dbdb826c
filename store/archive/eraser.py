"""Deletes everything of a user, in steps that other users and other calls don't wait for."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Table, and_, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.database import ArchiveDatabase
from store.archive.schema import messages, turns, users

ROWS_AT_ONCE = 2000


async def erase(database: ArchiveDatabase, user: str) -> None:
    """Delete everything of `user`. A call that was cut off is completed by another one."""
    for table in (messages, turns):
        while await database.write(_step(table, user)):
            pass

    async def rest(connection: AsyncConnection) -> None:
        await connection.execute(delete(users).where(users.c.user_id == user))

    await database.write(rest)


def _step(table: Table, user: str):  # type: ignore[no-untyped-def]
    """Return the work that deletes some rows of a table and returns whether there were any."""
    some = select(table.c.id).where(table.c.user_id == user).limit(ROWS_AT_ONCE).subquery()
    named: ColumnElement[bool] = and_(table.c.user_id == user, table.c.id.in_(select(some.c.id)))

    async def work(connection: AsyncConnection) -> bool:
        # The lock of the user's row, as in every transaction that writes, so that two never wait for each other.
        await connection.execute(update(users).where(users.c.user_id == user).values(applied=users.c.applied))
        return (await connection.execute(delete(table).where(named))).rowcount > 0

    return work
