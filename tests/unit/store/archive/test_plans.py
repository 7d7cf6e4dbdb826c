"""The plans of the writer's statements in a database without statistics: PostgreSQL keeps them while the tables grow."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.sql_archive import SqlArchive
from tests.archive_conformance import conversation, message, put, turn
from tests.postgres_process import PostgresProcess, shared_postgres

__all__ = ["shared_postgres"]

READ = re.compile(r"Scan(?: using (\w+))? on (users|conversations|messages|turns)\b")


async def test_a_new_table_is_read_by_its_key(shared_postgres: PostgresProcess) -> None:
    """With any other index, the database would read all rows of the user for each row that it writes."""
    archive = SqlArchive(shared_postgres.url(shared_postgres.create_database()), migrate=True)
    await archive.open()
    try:
        executed = await _executed(archive)
        plans = [line for statement, row in executed for line in await _plan(archive, statement, row)]
    finally:
        await archive.close()
    read = {(found[2], found[1]) for line in plans if (found := READ.search(line))}
    assert read == {(table, f"{table}_key") for table in ("users", "conversations", "messages", "turns")}


async def _executed(archive: SqlArchive) -> list[tuple[str, Any]]:
    """Write some entries, and return the statements, each with the parameters of its last row."""
    engine = archive._database._engine
    assert engine is not None
    executed: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        executed.append((statement, parameters[-1] if isinstance(parameters, list) else parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        await put(archive, conversation(), message("m1"), message("m2", parent="m1"), turn())
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)
    return [(statement, row) for statement, row in executed if re.match(r"SELECT \w+\.|INSERT|UPDATE", statement)]


async def _plan(archive: SqlArchive, statement: str, row: Any) -> list[str]:
    async def work(connection: AsyncConnection) -> list[str]:
        return [line[0] for line in await connection.exec_driver_sql(f"EXPLAIN {statement}", tuple(row))]

    return await archive._database.read(work)
