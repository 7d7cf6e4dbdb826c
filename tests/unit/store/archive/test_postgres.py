"""The archive's PostgreSQL fails: what a caller is told, how long it waits, and that it goes on afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from store.archive.api import ArchiveError
from store.archive.sql_archive import SqlArchive
from tests.archive_conformance import batch, conversation, message, message_ids, put
from tests.ports import free_port
from tests.postgres_process import PASSWORD, PostgresProcess, postgres_process, postgres_server, shared_postgres

__all__ = ["postgres_server", "shared_postgres"]


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[SqlArchive]:
    """Open an archive. On exit, close it."""
    archive = SqlArchive(url, migrate=True, **options)
    try:
        await archive.open()
        yield archive
    finally:
        await archive.close()


async def refused(url: str, **options: Any) -> str:
    """Return the message with which opening fails. Check that it shows neither the password nor the URL."""
    with pytest.raises(ArchiveError) as raised:
        async with opened(url, **options):
            pass
    shown = f"{raised.value} {raised.value.__cause__}"
    assert PASSWORD not in shown
    assert not url or url not in shown
    return str(raised.value)


async def test_what_is_wrong_with_a_url(postgres_server: PostgresProcess) -> None:
    """The message names it and says what to correct. The forms of the scheme and libpq's parameters are accepted."""
    url = postgres_server.url()
    for wrong, expected in {
        url.replace(PASSWORD, "wrong"): "refuses the password",
        url.replace("turnwire:", "nobody:"): "refuses the password",
        url.replace("127.0.0.1", "nowhere.invalid"): "host is unknown",
        url.replace("/postgres", "/nothing"): "no such database",
        url.replace(str(postgres_server.port), str(free_port())): "can't be reached",
        url.replace(str(postgres_server.port), "port"): "isn't valid",
        url.replace(PASSWORD, "p@ss"): "Percent-encode each @",
        url.replace(PASSWORD, "p/ss"): "percent-encode each @, /",
        url + "?sslmode=require": "no TLS",
        url + "?sslmode=sometimes": "isn't valid",
        url + "?sslmode=verify-full&sslrootcert=/nowhere.pem": "can't be read",
        url + "?unheard_of=1": "doesn't know a parameter",
        "mysql://" + url.partition("://")[2]: "Unknown archive",
        "sqlite:///:memory:": "Unknown archive",
        "": "Unknown archive",
    }.items():
        assert expected in await refused(wrong), wrong
    rest = url.partition("://")[2]
    libpq = "?sslmode=prefer&connect_timeout=3&keepalives_idle=5&channel_binding=prefer&application_name=chat"
    for right in (f"postgres://{rest}", f"postgresql+asyncpg://{rest}{libpq}"):
        async with opened(right) as archive:
            await archive.ping()


async def test_tls_is_checked_as_libpq_does(tmp_path: Path) -> None:
    """`sslmode` and `sslrootcert` decide whether the server's certificate is checked."""
    authority, other = trustme.CA(), trustme.CA()
    files = {"right": authority, "other": other}
    for name, each in files.items():
        each.cert_pem.write_to_path(tmp_path / f"{name}.pem")
    certificate = authority.issue_cert("127.0.0.1")
    with postgres_process(password=True) as server:
        server.stop()
        server.use_certificate(certificate)
        server.start()
        url = server.url()
        for query in ("sslmode=require", f"sslmode=verify-full&sslrootcert={tmp_path}/right.pem"):
            async with opened(f"{url}?{query}") as archive:
                await archive.ping()
        message = await refused(f"{url}?sslmode=verify-full&sslrootcert={tmp_path}/other.pem")
        assert "certificate isn't accepted" in message


async def test_a_call_in_progress_fails_with_the_server_and_the_next_one_works(
    postgres_server: PostgresProcess,
) -> None:
    """The server restarts: calls fail meanwhile, and afterwards the archive reconnects by itself."""
    async with opened(postgres_server.url()) as archive:
        await put(archive, conversation())
        postgres_server.stop()
        for call in (archive.apply([batch(message(), after=5)]), archive.conversation("ann", "c1"), archive.ping()):
            with pytest.raises(ArchiveError, match=r"can't be reached|connection to the archive was lost"):
                await call
        postgres_server.start()
        await put(archive, message(), after=5)
        assert await message_ids(archive) == ["m1"]
        postgres_server.kill()
        postgres_server.start()
        # The connections of the pool are dead: a call notices it and uses a new one.
        assert await message_ids(archive) == ["m1"]


async def test_a_connection_that_is_lost_is_replaced(shared_postgres: PostgresProcess) -> None:
    """An operator ends all connections: the next calls don't fail, and a batch isn't applied twice."""
    name = shared_postgres.create_database()
    end = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}'"
    async with opened(shared_postgres.url(name)) as archive:
        for n in range(1, 6):
            shared_postgres.execute(end)
            assert (await put(archive, conversation(), message(f"m{n}"), after=10 * n)).stale_until is None
            shared_postgres.execute(end)
            assert len(await message_ids(archive)) == n


async def test_a_server_that_does_not_answer_delays_nobody_for_long(postgres_server: PostgresProcess) -> None:
    """Each call has a deadline, whether it has an old connection or needs a new one. Then everything works again."""
    async with opened(postgres_server.url() + "?connect_timeout=1", call_s=1) as archive:
        await put(archive, conversation())
        postgres_server.freeze()
        started = time.monotonic()
        calls = [archive.conversation("ann", "c1") for _ in range(12)]
        results = await asyncio.gather(archive.apply([batch(message(), after=5)]), *calls, return_exceptions=True)
        assert time.monotonic() - started < 5
        for result in results:
            assert isinstance(result, ArchiveError)
            assert "doesn't answer in time" in str(result) or "are busy" in str(result)
        postgres_server.thaw()
        applied = await put(archive, message(), after=5)
        assert len(applied.done) == 1
        assert await message_ids(archive) == ["m1"]


async def test_a_lock_of_someone_else_ends_with_the_deadline(shared_postgres: PostgresProcess) -> None:
    """An operator's transaction has locked a table: a call that needs the table fails, and the others don't."""
    name = shared_postgres.create_database()
    async with opened(shared_postgres.url(name), call_s=1) as archive, opened(shared_postgres.url(name)) as operator:
        await put(archive, conversation())

        async def lock(connection: Any) -> None:
            await connection.exec_driver_sql("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(ArchiveError, match=r"took too long|in time"):
                await put(archive, message(), after=5)
            assert await archive.conversation("ann", "c1") is not None

        await operator._database.write(lock)
        assert len((await put(archive, message(), after=5)).done) == 1


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("53100", "disk of the archive is full"),
        ("53200", "no memory left"),
        ("42501", "may not do that"),
        ("25006", "read-only"),
        ("XX000", "SQLSTATE XX000"),
    ],
)
async def test_an_error_of_the_server_is_not_the_fault_of_an_entry(
    shared_postgres: PostgresProcess, state: str, expected: str
) -> None:
    """Nothing is applied, nothing is poisoned, and the message says what to do."""
    name = shared_postgres.create_database()
    async with opened(shared_postgres.url(name)) as archive:
        shared_postgres.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION 'secret' USING ERRCODE = '{state}'; END $$;"
            "CREATE TRIGGER fail BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION fail()",
            name,
        )
        with pytest.raises(ArchiveError, match=expected) as raised:
            await put(archive, conversation(), message())
        assert "secret" not in str(raised.value)
        assert await archive.conversation("ann", "c1") is None
        shared_postgres.execute("DROP TRIGGER fail ON messages", name)
        assert len((await put(archive, conversation(), message())).done) == 2


async def test_a_deadlock_is_tried_again(shared_postgres: PostgresProcess) -> None:
    """The database ends one of two transactions: it is repeated, and the caller doesn't notice."""
    name = shared_postgres.create_database()
    async with opened(shared_postgres.url(name)) as archive:
        shared_postgres.execute(
            "CREATE SEQUENCE attempts; CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN IF nextval('attempts') = 1 THEN RAISE EXCEPTION USING ERRCODE = '40P01'; END IF;"
            " RETURN new; END $$;"
            "CREATE TRIGGER fail BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION fail()",
            name,
        )
        assert len((await put(archive, conversation(), message())).done) == 2


async def test_too_many_connections() -> None:
    """The message says what to raise."""
    with postgres_process(settings={"max_connections": "5", "superuser_reserved_connections": "0"}) as server:
        async with opened(server.url()) as archive:
            assert "max_connections" in await _exhausted(server.url(), archive)


async def _exhausted(url: str, archive: SqlArchive) -> str:
    """Use up all connections, and return the message of the next one."""
    others = [SqlArchive(url) for _ in range(8)]
    try:
        for other in others:
            try:
                await other.open()
            except ArchiveError as error:
                return str(error)
        return ""
    finally:
        for other in others:
            await other.close()


async def test_a_closed_archive_says_so(shared_postgres: PostgresProcess) -> None:
    """Closing it twice is harmless."""
    async with opened(shared_postgres.url(shared_postgres.create_database())) as archive:
        await archive.close()
        with pytest.raises(ArchiveError, match="closed"):
            await archive.ping()
