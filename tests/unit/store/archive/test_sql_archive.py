"""The archive in PostgreSQL and in a SQLite file: the conformance tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.sql_archive import SqlArchive
from tests.archive_conformance import ArchiveConformance
from tests.archived_stores import LastingArchive, lasting_archive
from tests.postgres_process import PostgresProcess, shared_postgres

__all__ = ["shared_postgres"]


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def in_postgres(shared_postgres: PostgresProcess) -> AsyncIterator[LastingArchive]:
    """The archive of a class in PostgreSQL."""
    async with lasting_archive(shared_postgres.url(shared_postgres.create_database())) as archive:
        yield archive


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def in_sqlite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LastingArchive]:
    """The archive of a class in a SQLite file."""
    async with lasting_archive(f"sqlite:///{tmp_path_factory.mktemp('archive') / 'archive.db'}") as archive:
        yield archive


@pytest.mark.asyncio(loop_scope="class")
class TestPostgres(ArchiveConformance):
    """The conformance tests on PostgreSQL."""

    @pytest_asyncio.fixture(loop_scope="class")
    async def archive(self, in_postgres: LastingArchive) -> AsyncIterator[SqlArchive]:
        """An empty archive."""
        yield in_postgres
        await in_postgres.clear()
        await self.query_all(in_postgres, "DROP TRIGGER IF EXISTS refuse ON messages")

    async def query_all(self, archive: SqlArchive, *statements: str) -> None:
        """Run statements."""

        async def work(connection: AsyncConnection) -> None:
            for statement in statements:
                await connection.execute(text(statement))

        await archive._database.write(work)

    async def refuse_messages(self, archive: SqlArchive, pattern: str) -> None:
        """See `ArchiveConformance`."""
        await self.query_all(
            archive,
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION USING ERRCODE = '23514'; END $$",
            f"CREATE TRIGGER refuse BEFORE INSERT ON messages FOR EACH ROW WHEN (new.turn_id LIKE '{pattern}')"
            " EXECUTE FUNCTION refuse()",
        )


@pytest.mark.asyncio(loop_scope="class")
class TestSqlite(ArchiveConformance):
    """The conformance tests on a SQLite file."""

    @pytest_asyncio.fixture(loop_scope="class")
    async def archive(self, in_sqlite: LastingArchive) -> AsyncIterator[SqlArchive]:
        """An empty archive."""
        yield in_sqlite
        await in_sqlite.clear()
        await self.query(in_sqlite, "DROP TRIGGER IF EXISTS refuse")

    async def refuse_messages(self, archive: SqlArchive, pattern: str) -> None:
        """See `ArchiveConformance`."""
        await self.query(
            archive,
            f"CREATE TRIGGER refuse BEFORE INSERT ON messages WHEN new.turn_id LIKE '{pattern}'"
            " BEGIN SELECT raise(ABORT, 'refused'); END",
        )
