"""A database that is away at the start of an instance, or that comes back as something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from gateway.requests.export import export_user
from store.archive import drain
from store.archive.api import Archive, ArchiveError, ArchiveUnfit
from store.archive.archived_store import ArchivedStore
from store.archive.sql_archive import SqlArchive
from store.records import TurnLimits
from tests.archived_stores import archived_store
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.postgres_process import PostgresProcess, shared_postgres
from tests.redis_process import RedisProcess, shared_redis
from tests.stored import conversation, new_turn, run

__all__ = ["shared_postgres", "shared_redis"]

GUEST = "late_guest"
LOGGED = "can't be used until its error is corrected"
Change = Callable[[PostgresProcess, str], object]


@asynccontextmanager
async def store_on(
    server: RedisProcess, url: str, *, migrate: bool = False
) -> AsyncIterator[tuple[ArchivedStore, SqlArchive]]:
    """Open a store on an empty Redis, with the archive at `url`."""
    server.execute("FLUSHALL")
    archive = SqlArchive(url, migrate=migrate)
    async with archived_store(server.url, cast("Archive", archive)) as store:
        yield store, archive


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


def titles(server: PostgresProcess, name: str) -> list[list[str]]:
    """Return the titles of the conversations in the database."""
    return server.execute("SELECT title FROM conversations", name)


async def migrated(server: PostgresProcess) -> str:
    """Create a database with the schema of an archive, which the user `GUEST` may use, and return its name."""
    name = server.create_database()
    archive = SqlArchive(server.url(name))
    await archive.upgrade()
    await archive.close()
    if not server.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{GUEST}'"):
        server.execute(f"CREATE ROLE {GUEST} LOGIN")
    server.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {GUEST}", name)
    return name


async def test_an_instance_starts_while_sql_is_away(
    shared_postgres: PostgresProcess, shared_redis: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """It works as it does when SQL goes away later. When SQL is there, the schema is created and everything is archived."""
    name = shared_postgres.create_database()
    async with fault_proxy(shared_postgres.port) as proxy:
        proxy.refuse()
        url = shared_postgres.url(name, port=proxy.port)
        async with store_on(shared_redis, url, migrate=True) as (store, _):
            assert (store.archive_state.is_degraded, store.archive_state.is_unfit) == (True, False)
            new = conversation("c_" + "A" * 22, title="Kept")
            await run(cast("Any", store), new_turn(conversation=None, new_conversation=new, limits=TurnLimits()))
            assert [one.title for one in (await store.conversations("ann", 10, None))[0]] == ["Kept"]
            assert (await store.usage("ann", None, None)).input_tokens == 1
            for call in (
                store.conversation("ann", "unknown"),
                store.erase_user("bob"),
                store.conversations("ann", 10, None, whole=True),
                store.usage_days("ann"),
                anext(export_user(cast("Any", store), "ann")),
            ):
                with pytest.raises(ArchiveError, match="can't be reached now"):
                    await call
            proxy.restore()
            await until(lambda: not store.archive_state.is_degraded)
            await store._drain.settle("ann")
        assert titles(shared_postgres, name) == [["Kept"]]
    assert sum("the archive can't be written" in text for text in caplog.messages) == 1


def _make_read_only(server: PostgresProcess, name: str) -> None:
    server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")


def _make_writable(server: PostgresProcess, name: str) -> None:
    server.execute(
        f"SET default_transaction_read_only = off; ALTER DATABASE {name} RESET default_transaction_read_only"
    )
    _end_connections(server, name)


def _end_connections(server: PostgresProcess, name: str) -> None:
    server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


def _run(command: str) -> Change:
    return lambda server, name: server.execute(command, name)


UNFIT: dict[str, tuple[Change, str, Change]] = {
    "newer": (
        _run("UPDATE turnwire_version SET version_num = '9999'"),
        "Upgrade Turnwire",
        _run("UPDATE turnwire_version SET version_num = '0004'"),
    ),
    "older": (
        _run("UPDATE turnwire_version SET version_num = '0001'"),
        "turnwire archive upgrade",
        _run("UPDATE turnwire_version SET version_num = '0004'"),
    ),
    "foreign": (
        _run("ALTER TABLE turnwire_version RENAME TO someone_elses"),
        "isn't Turnwire's",
        _run("ALTER TABLE someone_elses RENAME TO turnwire_version"),
    ),
    "read-only": (_make_read_only, "Set TURNWIRE_ARCHIVE to the primary server", _make_writable),
    "no rights": (
        _run(f"REVOKE INSERT ON messages FROM {GUEST}"),
        "GRANT it the rights",
        _run(f"GRANT INSERT ON messages TO {GUEST}"),
    ),
}


@pytest.mark.parametrize("case", UNFIT)
async def test_a_database_that_comes_back_as_something_else(
    case: str,
    shared_postgres: PostgresProcess,
    shared_redis: RedisProcess,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a start refuses is refused later too: it is said once, the archive stays degraded, and nothing is written. When an
    operator has changed it, everything is archived."""
    monkeypatch.setattr(drain, "UNFIT_RETRY_S_MAX", 0.3)
    spoil, said, mend = UNFIT[case]
    name = await migrated(shared_postgres)
    spoil(shared_postgres, name)
    with pytest.raises(ArchiveUnfit, match=said):
        async with store_on(shared_redis, shared_postgres.url(name, GUEST)):
            pass
    async with fault_proxy(shared_postgres.port) as proxy:
        proxy.refuse()
        async with store_on(shared_redis, shared_postgres.url(name, GUEST, port=proxy.port)) as (store, _):
            await store.create_conversation(conversation("c_" + "A" * 22, title="Kept"))
            await _check_unfit(store, proxy, caplog, said)
            assert titles(shared_postgres, name) == []
            mend(shared_postgres, name)
            await until(lambda: not store.archive_state.is_degraded)
            await store._drain.settle("ann")
            assert titles(shared_postgres, name) == [["Kept"]]


async def test_a_database_that_becomes_read_only(
    shared_postgres: PostgresProcess,
    shared_redis: RedisProcess,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After an outage the database is checked as at the start, so an instance that runs says what is wrong with it now."""
    monkeypatch.setattr(drain, "UNFIT_RETRY_S_MAX", 0.3)
    spoil, said, mend = UNFIT["read-only"]
    name = await migrated(shared_postgres)
    async with fault_proxy(shared_postgres.port) as proxy:
        async with store_on(shared_redis, shared_postgres.url(name, GUEST, port=proxy.port)) as (store, _):
            proxy.refuse()
            await store.create_conversation(conversation("c_" + "B" * 22, title="Later"))
            await until(lambda: store.archive_state.is_degraded)
            spoil(shared_postgres, name)
            await _check_unfit(store, proxy, caplog, said)
            mend(shared_postgres, name)
            await until(lambda: not store.archive_state.is_degraded)
            await store._drain.settle("ann")
            assert titles(shared_postgres, name) == [["Later"]]


async def _check_unfit(store: ArchivedStore, proxy: FaultProxy, caplog: pytest.LogCaptureFixture, said: str) -> None:
    """Make the database reachable again, and check that its error is logged once, although it is tried several times."""
    attempts = 0
    open_again = store._archive.open

    async def counted() -> None:
        nonlocal attempts
        attempts += 1
        await open_again()

    store._archive.open = counted  # type: ignore[method-assign]
    proxy.restore()
    await until(lambda: store.archive_state.is_unfit)
    before = attempts
    await until(lambda: attempts >= before + 2)
    store._archive.open = open_again  # type: ignore[method-assign]
    assert store.archive_state.is_degraded
    assert [said in text for text in caplog.messages if LOGGED in text] == [True]
