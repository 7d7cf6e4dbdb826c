"""Opening a SQLite file: what can be wrong with it is said in a sentence, and it is one process's own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from store.base import StoreError
from store.database import SCHEMA_VERSION, Database

NOBODY = 65534


async def refusal(path: Path | str) -> str:
    database = Database(str(path))
    with pytest.raises(StoreError) as refused:
        await database.open()
    await database.close()
    return str(refused.value)


@contextmanager
def without_rights() -> Iterator[Path]:
    """A folder where this process, also root's, may read and not write files that are read-only."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


async def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    """The file is one process's own; another is told what to do, and may have it afterwards."""
    path = tmp_path / "turnwire.db"
    first = Database(str(path))
    await first.open()
    assert "is in use by another process" in await refusal(path)
    await first.close()
    second = Database(str(path))
    await second.open()
    await second.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """And left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, " * 500)
    assert "is not a SQLite database" in await refusal(path)
    assert path.read_text().startswith("Dear diary")


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The message says which file, and to check the folder."""
    message = await refusal(tmp_path / "nowhere" / "turnwire.db")
    assert "nowhere" in message
    assert "folder" in message


async def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A path that is a folder can't be opened."""
    assert str(tmp_path) in await refusal(tmp_path)


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A file of a later version is neither read nor changed."""
    path = tmp_path / "turnwire.db"
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    message = await refusal(path)
    assert "another version" in message
    assert str(SCHEMA_VERSION + 1) in message


async def test_a_read_only_file_is_refused() -> None:
    """A file that may not be written says so."""
    with without_rights() as folder:
        path = folder / "turnwire.db"
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE other (a)")
        db.close()
        path.chmod(stat.S_IRUSR)
        assert "can't be written" in await refusal(path)


async def test_another_error_of_the_file_is_said_too(tmp_path: Path) -> None:
    """A database whose tables clash with ours can't be used."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE VIEW turns AS SELECT 1")
    db.close()
    assert "Can't use" in await refusal(path)


async def test_a_failed_call_changes_nothing(tmp_path: Path) -> None:
    """Each call is one transaction: it commits whole or not at all, and the next one works."""
    database = Database(str(tmp_path / "turnwire.db"))
    await database.open()

    def half(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE half (a)")
        db.execute("INSERT INTO half VALUES (1)")
        raise KeyError("half way")

    with pytest.raises(KeyError):
        await database.run(half)
    with pytest.raises(StoreError, match="no such table"):
        await database.run(lambda db: db.execute("SELECT * FROM half").fetchall())
    assert await database.run(lambda db: db.execute("SELECT 1").fetchone()[0]) == 1
    await database.close()


async def test_calls_are_served_in_their_order(tmp_path: Path) -> None:
    """Also those that were made before the close."""
    database = Database(str(tmp_path / "turnwire.db"))
    await database.open()
    seen: list[int] = []
    async with asyncio.TaskGroup() as tasks:
        for n in range(20):
            tasks.create_task(database.run(lambda _, n=n: seen.append(n)))  # type: ignore[misc]
        await asyncio.sleep(0)
        tasks.create_task(database.close())
    assert seen == list(range(20))


async def test_before_it_is_open_it_serves_nothing() -> None:
    """A call before the opening, or after the close, is a `StoreError`."""
    database = Database(":memory:")
    with pytest.raises(StoreError, match="closed"):
        await database.run(lambda _: None)
    await database.close()
