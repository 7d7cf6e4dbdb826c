"""Stores with an archive for tests, and the ways in which Redis forgets what only the archive keeps."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import redis
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store_wrapper import Call, wrap_calls
from store.api import Store
from store.archive.api import Archive
from store.archive.archived_store import ArchivedStore
from store.archive.schema import VERSION_TABLE, metadata
from store.archive.sql_archive import SqlArchive
from store.redis.store import RedisStore
from tests.redis_process import RedisProcess

_HISTORY = re.compile(
    r"turnwire:\{@[^}]*\}:(conversation:.*|messages:.*|message:.*|conversations|sizes|stored)", re.DOTALL
)
_NOT_HISTORY = frozenset(
    """append renew release expired_leases claim request_cancel run_pubsub subscribe unsubscribe publish renew_presence
    has_other_presence open close ping log running put_ephemeral pop_ephemeral get_ephemeral count_requests acquire_permits
    renew_permits release_permits""".split()
)


def forget_history(server: RedisProcess) -> None:
    """Delete the conversations and messages of all users in Redis, as if they had expired. Turns stay."""
    with _client(server) as client:
        _forget_history(client)


def _client(server: RedisProcess) -> redis.Redis:
    return redis.Redis.from_url(server.url, protocol=2)


def _forget_history(client: redis.Redis) -> None:
    found: Any = client.keys("turnwire:*")
    keys = [key for key in found if _HISTORY.fullmatch(key.decode("utf-8", "replace"))]
    if keys:
        client.delete(*keys)


class LastingArchive(SqlArchive):
    """An archive that stays open when a store that uses it is closed, for the tests of a class.

    A new one for each test would compile every statement and make its connections again.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, migrate=True)
        self.url = url
        self._is_open = False

    async def open(self) -> None:
        """Open the archive, unless it is open."""
        if not self._is_open:
            await super().open()
            self._is_open = True

    async def close(self) -> None:
        """Stay open."""

    async def end(self) -> None:
        """Close the archive."""
        self._is_open = False
        await super().close()

    async def clear(self) -> None:
        """Delete all data."""
        tables = reversed(metadata.sorted_tables)
        names = [table.name for table in tables if table.name != VERSION_TABLE]
        statements = [f"DELETE FROM {name}" for name in names]
        if self._database.is_postgres:
            statements = [f"TRUNCATE {', '.join(names)}"]

        async def work(connection: AsyncConnection) -> None:
            for statement in statements:
                await connection.exec_driver_sql(statement)

        await self._database.write(work)


_new_file: list[bytes] = []


async def new_archive_file(path: Path) -> str:
    """Create an empty archive in a SQLite file, a copy of the first one, and return its URL."""
    if not _new_file:
        archive = SqlArchive(f"sqlite:///{path}")
        await archive.open()
        await archive.close()
        _new_file.append(path.read_bytes())
    path.write_bytes(_new_file[0])
    return f"sqlite:///{path}"


@asynccontextmanager
async def lasting_archive(url: str) -> AsyncIterator[LastingArchive]:
    """Open an archive that stays open until the end of the block, with the current schema."""
    archive = LastingArchive(url)
    try:
        await archive.open()
        yield archive
    finally:
        await archive.end()


@asynccontextmanager
async def archived_store(
    url: str, archive: Archive, *, sync: bool = False, **options: Any
) -> AsyncIterator[ArchivedStore]:
    """Open a store on a Redis with an archive. On exit, close it."""
    store = ArchivedStore(RedisStore(url, archived=True, **options), archive, sync=sync)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


@contextmanager
def always_cold(store: ArchivedStore, server: RedisProcess) -> Iterator[Store]:
    """Yield a wrapper of `store` for which Redis forgets all history before each call that runs alone.

    Before the calls of a turn it forgets it only sometimes, so that tests with many turns aren't slow.
    """
    running = 0
    turn_calls = itertools.count()

    def wrap(name: str, call: Call) -> Call:
        if name in _NOT_HISTORY:
            return call

        async def cold(*args: Any, **fields: Any) -> Any:
            nonlocal running
            is_often = name in {"accept", "end"} and next(turn_calls) % 3
            if not running and not is_often:
                running += 1
                try:
                    await store._drain.settle_all()
                    if running == 1:  # no other call has begun meanwhile
                        _forget_history(client)
                finally:
                    running -= 1
            running += 1
            try:
                return await call(*args, **fields)
            finally:
                running -= 1

        return cold

    with _client(server) as client:
        yield wrap_calls(cast("Store", store), wrap)
