"""The archive in PostgreSQL and in a SQLite file: the conformance tests."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.sql_archive import SqlArchive
from tests.archive_conformance import ArchiveConformance
from tests.postgres_process import PostgresProcess, shared_postgres

__all__ = ["shared_postgres"]


@pytest.fixture(scope="module")
def url(shared_postgres: PostgresProcess) -> str:
    """The URL of a database for these tests."""
    return shared_postgres.url(shared_postgres.create_database())


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a file with the schema, which the first test creates."""
    return tmp_path_factory.mktemp("archive") / "template.db"


class TestPostgres(ArchiveConformance):
    """The conformance tests on PostgreSQL."""

    @pytest.fixture
    async def archive(self, url: str) -> AsyncIterator[SqlArchive]:
        """An empty archive."""
        archive = SqlArchive(url, migrate=True)
        await archive.open()
        yield archive
        await self.query_all(archive, "TRUNCATE users CASCADE", "DROP TRIGGER IF EXISTS refuse ON messages")
        await archive.close()

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


class TestSqlite(ArchiveConformance):
    """The conformance tests on a SQLite file."""

    @pytest.fixture
    async def archive(self, template: Path, tmp_path: Path) -> AsyncIterator[SqlArchive]:
        """An empty archive."""
        path = tmp_path / "archive.db"
        if not template.exists():
            first = SqlArchive(f"sqlite:///{template}")
            await first.open()
            await first.close()
        shutil.copy(template, path)
        archive = SqlArchive(f"sqlite:///{path}")
        await archive.open()
        yield archive
        await archive.close()

    async def refuse_messages(self, archive: SqlArchive, pattern: str) -> None:
        """See `ArchiveConformance`."""
        await self.query(
            archive,
            f"CREATE TRIGGER refuse BEFORE INSERT ON messages WHEN new.turn_id LIKE '{pattern}'"
            " BEGIN SELECT raise(ABORT, 'refused'); END",
        )
