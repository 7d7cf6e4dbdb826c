"""A Redis store with an archive passes the conformance tests, whether Redis still has the history or only the archive has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import cast

import pytest

from store.api import Store
from tests.archived_stores import always_cold, archived_store
from tests.memory_archive import MemoryArchive
from tests.redis_process import RedisProcess, shared_redis
from tests.store_conformance import OpenStore, StoreConformance

__all__ = ["shared_redis"]


class TestHot(StoreConformance):
    """While Redis has everything."""

    @pytest.fixture
    async def open_store(self, shared_redis: RedisProcess) -> AsyncIterator[OpenStore]:
        """Stores on one empty Redis and one archive."""
        shared_redis.execute("FLUSHALL")
        archive = MemoryArchive()
        async with AsyncExitStack() as stores:

            async def open_store() -> Store:
                return cast("Store", await stores.enter_async_context(archived_store(shared_redis.url, archive)))

            yield open_store


class TestCold(StoreConformance):
    """When Redis forgets everything after each call."""

    @pytest.fixture
    async def open_store(self, shared_redis: RedisProcess) -> AsyncIterator[OpenStore]:
        """Stores on one empty Redis and one archive."""
        shared_redis.execute("FLUSHALL")
        archive = MemoryArchive()
        async with AsyncExitStack() as stores:

            async def open_store() -> Store:
                store = await stores.enter_async_context(archived_store(shared_redis.url, archive))
                return always_cold(store, shared_redis)

            yield open_store
