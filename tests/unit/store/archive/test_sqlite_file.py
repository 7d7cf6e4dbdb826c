"""An archive in a SQLite file: several processes, a full disk, a read-only or damaged file, and erasure."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from store.archive.api import ArchiveError
from store.archive.sql_archive import SqlArchive
from store.errors import StoreError
from tests.archive_conformance import batch, conversation, message, message_ids, put


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[SqlArchive]:
    """Open an archive in a file. On exit, close it."""
    archive = SqlArchive(f"sqlite:///{path}", **options)
    try:
        await archive.open()
        yield archive
    finally:
        await archive.close()


async def test_several_instances_write_at_once(tmp_path: Path) -> None:
    """They wait for each other, and each entry is applied once."""
    path = tmp_path / "archive.db"
    async with opened(path) as one, opened(path) as two:
        async with asyncio.TaskGroup() as tasks:
            for n in range(9):
                archive = (one, two)[n % 2]
                user = f"user{n % 3}"
                item = message(f"m{n}")
                tasks.create_task(archive.apply([batch(conversation(user=user), item, user=user, after=10 * n)]))
        for user in ("user0", "user1", "user2"):
            assert await message_ids(one, user=user) == await message_ids(two, user=user) != []


async def test_a_full_disk_is_not_the_fault_of_an_entry(tmp_path: Path) -> None:
    """Nothing is applied, the message says what to do, and it goes on when there is space."""
    async with opened(tmp_path / "archive.db") as archive:
        await put(archive, conversation())
        engine = archive._database._engine
        assert engine is not None

        async def limit(pages: int) -> None:
            async with engine.connect() as connection:
                await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        await limit(1)
        large = message(body=b"x" * 1_000_000)
        with pytest.raises(ArchiveError, match="disk of the archive's file is full"):
            await put(archive, large, after=5)
        await limit(10**6)
        assert len((await put(archive, large, after=5)).done) == 1


@pytest.mark.parametrize(("content", "expected"), [(b"no database" * 1000, "isn't a SQLite database"), (b"", "")])
async def test_a_file_of_something_else(tmp_path: Path, content: bytes, expected: str) -> None:
    """It is refused and left as it was. An empty file becomes an archive."""
    path = tmp_path / "archive.db"
    path.write_bytes(content)
    if not expected:
        async with opened(path) as archive:
            await archive.ping()
        return
    with pytest.raises(ArchiveError, match=expected):
        async with opened(path):
            pass
    assert path.read_bytes() == content


async def test_the_store_of_a_gateway_is_not_an_archive(tmp_path: Path) -> None:
    """Its tables have the same names."""
    path = tmp_path / "turnwire.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript("CREATE TABLE conversations (n INTEGER); PRAGMA user_version = 5")
    with pytest.raises(ArchiveError, match="isn't Turnwire's"):
        async with opened(path, migrate=True):
            pass


async def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    """The message says what to check."""
    with pytest.raises(StoreError, match="can't be opened"):
        async with opened(tmp_path / "missing" / "archive.db"):
            pass


async def test_a_lock_of_another_process_ends_with_the_deadline(tmp_path: Path) -> None:
    """A transaction in a sqlite3 shell keeps no call waiting for longer."""
    path = tmp_path / "archive.db"
    async with opened(path, call_s=4) as archive:
        await put(archive, conversation())
        with closing(sqlite3.connect(path, isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            with pytest.raises(ArchiveError, match="in use by another process"):
                await put(archive, message(), after=5)
            with pytest.raises(ArchiveError, match="in use by another process"):
                await archive.ping()
            assert await archive.conversation("ann", "c1") is not None
            shell.execute("ROLLBACK")
        assert len((await put(archive, message(), after=5)).done) == 1


async def test_nothing_of_an_erased_user_stays_in_the_file(tmp_path: Path) -> None:
    """Neither in the file nor in its journal, after the erasure itself."""
    canary = f"canary{os.getpid()}"
    path = tmp_path / "archive.db"
    async with opened(path) as archive:
        said = [message(f"{canary}{n}", f"{canary} says {n} " * 200) for n in range(50)]
        await put(archive, conversation(title=canary), *said, user=canary)
        await put(archive, conversation(), message())
        await archive.erase(canary)
        for file in tmp_path.iterdir():
            assert canary.encode() not in file.read_bytes(), file.name
        assert await message_ids(archive) == ["m1"]


def connection_threads() -> list[threading.Thread]:
    """Return the threads that run the calls of connections."""
    return [thread for thread in threading.enumerate() if "_connection_worker_thread" in thread.name]


async def test_a_closed_archive_leaves_no_thread(tmp_path: Path) -> None:
    """A call that was cancelled may still run in its connection's thread, which reports to the event loop at its end."""
    path = tmp_path / "archive.db"
    archive = SqlArchive(f"sqlite:///{path}", call_s=2)
    await archive.open()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        call = asyncio.get_running_loop().create_task(put(archive, conversation()))
        await asyncio.sleep(0.1)
        for _ in range(3):  # once for the call and twice for the end of its connection
            call.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await call
        assert connection_threads()
        await archive.close()
    assert not connection_threads()
