"""The archive's schema: upgrades and downgrades on data, old, new and foreign schemas, and missing rights."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.util import await_only

from store.archive.api import ArchiveError
from store.archive.schema import REVISIONS, VERSION_TABLE, metadata
from store.archive.sql_archive import SqlArchive
from store.archive.upgrade import _SCRIPTS
from tests.archive_conformance import conversation, found_ids, message, message_ids, put, turn
from tests.postgres_process import PostgresProcess, shared_postgres

__all__ = ["shared_postgres"]

ROOT = Path(__file__).parents[4]
MakeUrl = Callable[[], str]


@pytest.fixture(params=["postgres", "sqlite"])
def make_url(request: pytest.FixtureRequest, tmp_path: Path) -> MakeUrl:
    """Return a function that returns the URL of an empty database."""
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path}/archive.db"
    server: PostgresProcess = request.getfixturevalue("shared_postgres")
    name = server.create_database()
    return lambda: server.url(name)


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[SqlArchive]:
    """Open an archive. On exit, close it."""
    archive = SqlArchive(url, **options)
    try:
        await archive.open()
        yield archive
    finally:
        await archive.close()


@asynccontextmanager
async def closed(url: str) -> AsyncIterator[SqlArchive]:
    """Create an archive without opening it. On exit, close its connections."""
    archive = SqlArchive(url)
    try:
        yield archive
    finally:
        await archive.close()


async def refused(url: str, **options: Any) -> str:
    """Return the message with which opening fails. Check that it doesn't show the URL."""
    with pytest.raises(ArchiveError) as raised:
        async with opened(url, **options):
            pass
    assert url not in str(raised.value)
    return str(raised.value)


async def on_database(archive: SqlArchive, *statements: str) -> None:
    """Run statements on the database of an archive."""

    async def work(connection: AsyncConnection) -> None:
        for statement in statements:
            await connection.execute(text(statement))

    archive._database.open()
    await archive._database.write(work)


def test_the_revisions_are_those_of_the_migrations() -> None:
    """The code knows all migrations, without reading them at each start."""
    found = ScriptDirectory(str(_SCRIPTS)).walk_revisions()
    assert tuple(script.revision for script in reversed(list(found))) == REVISIONS


async def test_the_migrations_make_the_schema(make_url: MakeUrl) -> None:
    """After all of them, nothing differs from the tables in the code, with types, indexes and foreign keys.

    Only PostgreSQL has the index of the search.
    """

    def differences(connection: Connection) -> Any:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": connection.dialect.name == "postgresql",
                "include_name": lambda name, kind, _: kind != "table" or name != VERSION_TABLE,
                "version_table": VERSION_TABLE,
            },
        )
        found = compare_metadata(context, metadata)
        return [
            each
            for each in found
            if connection.dialect.name == "postgresql" or each[0] != "add_index" or each[1].name != "messages_by_term"
        ]

    async with opened(make_url(), migrate=True) as archive:

        async def work(connection: AsyncConnection) -> Any:
            return await connection.run_sync(differences)

        assert await archive._database.write(work) == []


async def test_upgrade_and_downgrade_keep_the_data(make_url: MakeUrl) -> None:
    """Down to the first revision and up again, everything is there and can be found; down to `base` removes all tables."""
    url = make_url()
    weird, said_by_them = "Straße \x00 \x1a \ud800", "北京 \x00 \x1a"
    async with opened(url, migrate=True) as archive:
        for user in ("ann", "bob"):
            said = [
                message(f"m{n}", f"{said_by_them} word{n}", rating="up", parent=f"m{n - 1}" if n else None)
                for n in range(1200)
            ]
            await put(archive, conversation(title=weird, system=weird, user=user), *said, turn(), user=user)
        before = await archive.messages("ann", "c1", 2000, None, None)
        assert await found_ids(archive, "strasse") == ["c1"]
    async with closed(url) as archive:
        assert (await archive.downgrade("0001")).revision == "0001"
        assert "turnwire archive upgrade" in await refused(url)
        assert (await archive.upgrade("0001")).revision == "0001"
        with pytest.raises(ArchiveError, match="Run turnwire archive upgrade --to 0004"):
            await archive.downgrade("0004")
        assert (await archive.upgrade()).revision == "0004"
        with pytest.raises(ArchiveError, match="Run turnwire archive downgrade --to 0001"):
            await archive.upgrade("0001")
        with pytest.raises(ArchiveError, match="no revision '7'"):
            await archive.upgrade("7")
    async with opened(url) as archive:
        assert await archive.messages("ann", "c1", 2000, None, None) == before
        assert await found_ids(archive, "strasse") == ["c1"]
        assert await found_ids(archive, '"北京 word1199"', "bob") == ["c1"]
        assert await found_ids(archive, "word1200") == []
        assert (await archive.branch("bob", "c1", "m1199", 1))[1] == 1199
        async with archive._database._engine.connect() as connection:  # type: ignore[union-attr]
            found_depths = await connection.execute(text("SELECT count(*) FROM messages WHERE depth IS NULL"))
            assert found_depths.scalar_one() == 0
        found = await archive.conversation("ann", "c1")
        assert found is not None
        assert found.record.title == weird
    async with closed(url) as archive:
        assert (await archive.downgrade("base")).kind == "empty"
        assert (await archive.upgrade()).kind == "current"
    async with opened(url) as archive:
        assert await archive.conversation("ann", "c1") is None


async def test_an_older_schema_is_upgraded_only_if_that_is_wanted(make_url: MakeUrl) -> None:
    """Otherwise the message says how."""
    async with closed(make_url()) as archive:
        await archive.upgrade("0001")
    message = await refused(make_url())
    assert (
        message == "The archive has an older schema. Run turnwire archive upgrade, or set TURNWIRE_ARCHIVE_MIGRATE=1."
    )
    async with opened(make_url(), migrate=True) as archive:
        assert (await archive.version()).kind == "current"


async def test_a_newer_schema_is_left_alone(make_url: MakeUrl) -> None:
    """Neither a start nor a command changes it."""
    async with opened(make_url(), migrate=True) as archive:
        await on_database(archive, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    for migrate in (False, True):
        message = await refused(make_url(), migrate=migrate)
        assert message == "The archive has a newer schema than this Turnwire. Upgrade Turnwire."
    async with closed(make_url()) as archive:
        for change in (archive.upgrade(), archive.downgrade("0001")):
            with pytest.raises(ArchiveError, match="Upgrade Turnwire"):
                await change
        assert (await archive.version()).revision == "9999"


async def test_a_database_that_is_not_ours_is_left_alone(make_url: MakeUrl) -> None:
    """It has a table of the same name and no version of ours. Its data isn't touched."""
    async with closed(make_url()) as archive:
        await on_database(archive, "CREATE TABLE users (name TEXT)", "INSERT INTO users VALUES ('theirs')")
        for migrate in (False, True):
            assert "isn't Turnwire's" in await refused(make_url(), migrate=migrate)
        with pytest.raises(ArchiveError, match="isn't Turnwire's"):
            await archive.downgrade("base")

        async def names(connection: AsyncConnection) -> list[Any]:
            return [*(await connection.execute(text("SELECT name FROM users"))).scalars()]

        assert await archive._database.read(names) == ["theirs"]


async def test_a_view_of_someone_else_is_left_alone(make_url: MakeUrl) -> None:
    """A view with the name of one of our tables also shows that the database isn't ours."""
    async with closed(make_url()) as archive:
        await on_database(archive, "CREATE VIEW users AS SELECT 1 AS id")
        for migrate in (False, True):
            assert "isn't Turnwire's" in await refused(make_url(), migrate=migrate)


async def test_other_tables_may_be_in_the_database(make_url: MakeUrl) -> None:
    """They belong to another application and have other names; one of them is Alembic's usual table."""
    async with closed(make_url()) as archive:
        await on_database(
            archive,
            "CREATE TABLE invoices (name TEXT)",
            "CREATE TABLE alembic_version (version_num TEXT)",
            "INSERT INTO alembic_version VALUES ('theirs')",
        )
        assert (await archive.upgrade()).kind == "current"
        assert (await archive.downgrade("base")).kind == "empty"


async def test_many_instances_upgrade_at_once(make_url: MakeUrl) -> None:
    """One does it, and the others wait for it and go on."""
    url = make_url()

    async def instance() -> None:
        async with opened(url, migrate=True) as archive:
            await archive.ping()

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(instance())
    async with opened(url) as archive:
        await put(archive, conversation(), message())
        assert await message_ids(archive) == ["m1"]


async def test_a_long_upgrade_of_a_file_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For longer than SQLite waits for its locks; other writes don't wait so long."""
    url, call_s = f"sqlite:///{tmp_path}/archive.db", 4.0
    has_begun, may_end = asyncio.Event(), asyncio.Event()
    upgrade = command.upgrade

    def long_upgrade(*arguments: Any) -> None:
        upgrade(*arguments)
        has_begun.set()
        await_only(may_end.wait())

    async def instance() -> None:
        async with opened(url, migrate=True, call_s=call_s) as archive:
            await archive.ping()

    monkeypatch.setattr(command, "upgrade", long_upgrade)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(instance())
        await has_begun.wait()
        others = [tasks.create_task(instance()) for _ in range(2)]
        await asyncio.sleep(0.75 * call_s)  # SQLite waits for half of it
        assert not any(other.done() for other in others)
        may_end.set()


async def test_a_new_file_is_created_for_its_owner_only(tmp_path: Path) -> None:
    """A start creates it, and nobody else can read it or its journals."""
    path = tmp_path / "archive.db"
    async with opened(f"sqlite:///{path}") as archive:
        await put(archive, conversation())
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        assert "archive.db" in modes
        assert set(modes.values()) == {0o600}
    with closing(sqlite3.connect(path)) as database, database:
        assert database.execute("SELECT id FROM conversations").fetchall() == [("c1",)]


async def test_a_start_does_not_create_tables_on_a_server(shared_postgres: PostgresProcess) -> None:
    """Without `migrate`, the error says how to create them."""
    url = shared_postgres.url(shared_postgres.create_database())
    message = await refused(url)
    assert (
        message == "The archive's database is empty. Run turnwire archive upgrade, or set TURNWIRE_ARCHIVE_MIGRATE=1."
    )


async def test_the_comments_are_in_the_database(shared_postgres: PostgresProcess) -> None:
    """An operator sees them in psql."""
    name = shared_postgres.create_database()
    async with opened(shared_postgres.url(name), migrate=True):
        pass
    shown = shared_postgres.execute("SELECT obj_description('messages'::regclass)", name)
    assert shown == [["Messages: what users asked and what models answered."]]


async def test_rights_are_checked_at_the_start(shared_postgres: PostgresProcess) -> None:
    """A user without the right to create tables or to write them is told what is missing."""
    server, name = shared_postgres, shared_postgres.create_database()
    server.execute("CREATE ROLE guest LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC", name)
    guest = server.url(name, "guest")
    async with closed(guest) as archive:
        with pytest.raises(ArchiveError, match="GRANT it the rights"):
            await archive.upgrade()
    async with opened(server.url(name), migrate=True):
        pass
    assert "permission" in (missing := await refused(guest)) or "right" in missing
    server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest", name)
    assert await refused(guest) == (
        "The archive's user has no right to INSERT in the table users. Make the user the owner of the database's tables, or "
        "GRANT it the rights."
    )
    server.execute("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO guest", name)
    async with opened(guest) as archive:
        await put(archive, conversation(), message())
        assert await message_ids(archive) == ["m1"]


async def test_a_read_only_server_is_refused(shared_postgres: PostgresProcess) -> None:
    """The error at the start says what to do."""
    name = shared_postgres.create_database()
    async with opened(shared_postgres.url(name), migrate=True):
        shared_postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    message = await refused(shared_postgres.url(name), migrate=True)
    assert message == "The archive is read-only, as a replica is. Set TURNWIRE_ARCHIVE to the primary server."


async def test_a_database_without_unicode_is_refused(shared_postgres: PostgresProcess) -> None:
    """Its text couldn't hold every message."""
    shared_postgres.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'")
    assert "ENCODING 'UTF8'" in await refused(shared_postgres.url("latin"), migrate=True)


async def test_the_tables_may_be_in_a_schema_of_their_own(shared_postgres: PostgresProcess) -> None:
    """Beside another application's tables of the same names."""
    name = shared_postgres.create_database()
    shared_postgres.execute("CREATE TABLE users (name TEXT); CREATE SCHEMA chat", name)
    for query in ("?search_path=chat", "?options=-csearch_path%3Dchat"):
        async with opened(shared_postgres.url(name) + query, migrate=True) as archive:
            await put(archive, conversation())
            assert await archive.conversation("ann", "c1") is not None
    assert shared_postgres.execute("SELECT count(*) FROM chat.conversations", name) == [["1"]]


@pytest.mark.parametrize("make_url", ["postgres", "sqlite"], indirect=True)
async def test_an_incomplete_schema_is_refused(make_url: MakeUrl) -> None:
    """The version alone doesn't show that somebody has removed a column: turns would end, and nothing would be archived."""
    url = make_url()
    async with opened(url, migrate=True) as archive:
        await on_database(archive, "ALTER TABLE feedback DROP COLUMN comment")
    for migrate in (False, True):
        message = await refused(url, migrate=migrate)
        assert "lacks the column comment of the table feedback" in message
    async with closed(url) as archive:
        assert (await archive.version()).kind == "incomplete"
        await on_database(archive, "DROP TABLE feedback")
    assert "lacks the table feedback" in await refused(url)


async def test_a_migration_is_logged_in_the_form_of_all_logs(tmp_path: Path) -> None:
    """Alembic's lines are JSON too, and there are none about its plugins."""
    script = (
        "import asyncio; from gateway.telemetry.logs import configure_logging; configure_logging('info', 'json');"
        "from store.archive.sql_archive import SqlArchive; archive = SqlArchive('sqlite:///archive.db', migrate=True);"
        "asyncio.run(archive.open())"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        (sys.executable, "-c", script),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert any("Running upgrade" in event["event"] for event in events)
    assert {event["logger"] for event in events} <= {"alembic.runtime.migration", "turnwire.store"}
