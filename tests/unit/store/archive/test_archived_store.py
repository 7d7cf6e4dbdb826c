"""A Redis store with an archive passes the conformance tests, whether Redis still has the history or only the archive has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import pytest

from store.api import Store
from store.archive.sql_archive import SqlArchive
from tests.archived_stores import always_cold, archived_store
from tests.postgres_process import PostgresProcess, shared_postgres
from tests.redis_process import RedisProcess, shared_redis
from tests.store_conformance import OpenStore, StoreConformance

__all__ = ["shared_postgres", "shared_redis"]


async def _instances(server: RedisProcess, url: str, *, cold: bool) -> AsyncIterator[OpenStore]:
    server.execute("FLUSHALL")
    async with AsyncExitStack() as stores:

        async def open_store() -> Store:
            archive = SqlArchive(url, migrate=True)
            store = await stores.enter_async_context(archived_store(server.url, archive))
            return always_cold(store, server) if cold else cast("Store", store)

        yield open_store


class TestHot(StoreConformance):
    """While Redis has everything; the archive is a SQLite file."""

    @pytest.fixture
    async def open_store(self, shared_redis: RedisProcess, tmp_path: Path) -> AsyncIterator[OpenStore]:
        """Stores on one empty Redis and one empty archive."""
        async for open_store in _instances(shared_redis, f"sqlite:///{tmp_path / 'archive.db'}", cold=False):
            yield open_store


class TestColdInSqlite(StoreConformance):
    """When Redis forgets everything after each call; the archive is a SQLite file."""

    @pytest.fixture
    async def open_store(self, shared_redis: RedisProcess, tmp_path: Path) -> AsyncIterator[OpenStore]:
        """Stores on one empty Redis and one empty archive."""
        async for open_store in _instances(shared_redis, f"sqlite:///{tmp_path / 'archive.db'}", cold=True):
            yield open_store


@pytest.fixture(scope="session")
def migrated_template(shared_postgres: PostgresProcess) -> str:
    """An empty database with the archive's schema, to copy for each test."""
    return shared_postgres.create_database()


class TestColdInPostgres(StoreConformance):
    """When Redis forgets everything after each call; the archive is in PostgreSQL."""

    @pytest.fixture
    async def open_store(
        self, shared_redis: RedisProcess, shared_postgres: PostgresProcess, migrated_template: str
    ) -> AsyncIterator[OpenStore]:
        """Stores on one empty Redis and one empty archive."""
        archive = SqlArchive(shared_postgres.url(migrated_template), migrate=True)
        await archive.open()  # creates the schema at the first test
        await archive.close()
        name = shared_postgres.create_database(migrated_template)
        async for open_store in _instances(shared_redis, shared_postgres.url(name), cold=True):
            yield open_store
