"""A Redis store with an archive passes the conformance tests, whether Redis still has the history or only the archive has it.

The tests of a class share an archive and an event loop: a new engine for each test would compile every statement again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import cast

import pytest
import pytest_asyncio

from store.api import Store
from store.archive.api import Archive
from store.archive.sql_archive import SqlArchive
from tests.archived_stores import LastingArchive, always_cold, archived_store, lasting_archive
from tests.postgres_process import PostgresProcess, shared_postgres
from tests.redis_process import RedisProcess, shared_redis
from tests.store_conformance import HistoryConformance, StoreConformance
from tests.stored import OpenStore

__all__ = ["shared_postgres", "shared_redis"]


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def in_sqlite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LastingArchive]:
    """The archive of a class in a SQLite file."""
    async with lasting_archive(f"sqlite:///{tmp_path_factory.mktemp('archive') / 'archive.db'}") as archive:
        yield archive


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def in_postgres(shared_postgres: PostgresProcess) -> AsyncIterator[LastingArchive]:
    """The archive of a class in PostgreSQL."""
    async with lasting_archive(shared_postgres.url(shared_postgres.create_database())) as archive:
        yield archive


@pytest.mark.asyncio(loop_scope="class")
class _Archived:
    """The fixtures of all classes. A subclass defines the fixture `archive`."""

    cold = False

    @pytest_asyncio.fixture(loop_scope="class")
    async def open_store(self, shared_redis: RedisProcess, archive: LastingArchive) -> AsyncIterator[OpenStore]:
        """Stores on one empty Redis and one empty archive. The first one uses `archive`."""
        shared_redis.execute("FLUSHALL")
        await archive.clear()
        archives: list[SqlArchive] = [archive]
        async with AsyncExitStack() as stores:

            async def open_store() -> Store:
                mine = archives.pop() if archives else SqlArchive(archive.url)
                store = await stores.enter_async_context(archived_store(shared_redis.url, cast("Archive", mine)))
                return stores.enter_context(always_cold(store, shared_redis)) if self.cold else cast("Store", store)

            yield open_store

    @pytest_asyncio.fixture(loop_scope="class")
    async def store(self, open_store: OpenStore) -> Store:
        """An open store without data."""
        return await open_store()

    @pytest_asyncio.fixture(loop_scope="class")
    async def other(self, store: Store, open_store: OpenStore) -> Store:
        """Another instance's store on the same data."""
        return await open_store()


class TestHot(_Archived, StoreConformance):  # type: ignore[misc]
    """While Redis has everything; the archive is a SQLite file."""

    @pytest.fixture
    def archive(self, in_sqlite: LastingArchive) -> LastingArchive:
        """The archive of all tests of the class."""
        return in_sqlite


class TestCold(_Archived, HistoryConformance):  # type: ignore[misc]
    """When Redis forgets everything after each call; the archive is in PostgreSQL.

    Calls that have nothing to do with the history never ask the archive, so only `TestHot` tests them. An archive in a
    SQLite file is tested by `ArchiveConformance` and by `test_archived_history.py`, in which Redis forgets too.
    """

    cold = True

    @pytest.fixture
    def archive(self, in_postgres: LastingArchive) -> LastingArchive:
        """The archive of all tests of the class."""
        return in_postgres
