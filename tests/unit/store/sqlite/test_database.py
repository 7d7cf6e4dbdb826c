"""Opening a SQLite file: what can be wrong with it is said in a sentence, and it is one process's own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from store.records import StoreError
from store.sqlite.database import CHECKPOINT_BYTES, JOURNAL_BYTES_MAX, SCHEMA_VERSION, Database

NOBODY = 65534
COPY = "import sqlite3, sys; a, b = map(sqlite3.connect, sys.argv[1:]); a.backup(b); b.close()"


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


async def test_another_process_may_read_and_copy(tmp_path: Path) -> None:
    """A backup of a database in use has everything that was committed before the backup began."""
    path, copy = tmp_path / "turnwire.db", tmp_path / "copy.db"
    database = Database(str(path))
    await database.open()
    await database.run(lambda db: db.execute("CREATE TABLE box (a)"))
    await database.run(lambda db: db.execute("INSERT INTO box VALUES ('before')"))

    def write(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO box VALUES (?)", (bytes(100_000),))

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        backup = await asyncio.create_subprocess_exec(sys.executable, "-c", COPY, path, copy)
        ended = tasks.create_task(backup.wait())
        while not ended.done():
            await database.run(write)
    assert ended.result() == 0
    await database.close()
    with sqlite3.connect(copy) as copied:
        assert copied.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert copied.execute("SELECT a FROM box LIMIT 1").fetchone()[0] == "before"
    copied.close()


async def test_a_long_journal_is_checkpointed(tmp_path: Path) -> None:
    """While calls go on; it is short again afterwards, and after the close there is none."""
    path = tmp_path / "turnwire.db"
    journal = path.with_name("turnwire.db-wal")
    database = Database(str(path))
    await database.open()
    await database.run(lambda db: db.execute("CREATE TABLE box (a)"))

    def write(db: sqlite3.Connection, size: int) -> None:
        db.execute("INSERT INTO box VALUES (?)", (bytes(size),))

    await database.run(write, 2 * CHECKPOINT_BYTES)
    assert journal.stat().st_size > CHECKPOINT_BYTES
    async with asyncio.timeout(20):
        while path.stat().st_size < 2 * CHECKPOINT_BYTES:
            await asyncio.sleep(0.01)
        while journal.stat().st_size > CHECKPOINT_BYTES:
            await database.run(write, 1)
    assert database._checkpointer is not None
    database._checkpointer._is_busy = True  # as a thread that never gets its turn
    for _ in range(40):
        await database.run(write, CHECKPOINT_BYTES)
        assert journal.stat().st_size < JOURNAL_BYTES_MAX + 2 * CHECKPOINT_BYTES
    await database.close()
    assert not journal.exists()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM box WHERE length(a) > 1").fetchone()[0] == 41
    db.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """And left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, " * 500)
    assert "isn't a SQLite database" in await refusal(path)
    assert path.read_text().startswith("Dear diary")
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The message says which file, and to check the folder."""
    message = await refusal(tmp_path / "nowhere" / "turnwire.db")
    assert "nowhere" in message
    assert "folder" in message


async def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A path that is a folder can't be opened."""
    assert str(tmp_path) in await refusal(tmp_path)


@pytest.mark.parametrize("version", [1, SCHEMA_VERSION + 1])
async def test_another_schema_is_refused(tmp_path: Path, version: int) -> None:
    """A file of an earlier or a later version is neither read nor changed."""
    path = tmp_path / "turnwire.db"
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    before = path.read_bytes()
    message = await refusal(path)
    assert f"another version of Turnwire ({version})" in message
    assert "another file" in message
    assert path.read_bytes() == before


async def test_a_read_only_file_is_refused() -> None:
    """A file that may not be written says so."""
    with without_rights() as folder:
        path = folder / "turnwire.db"
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE other (a)")
        db.close()
        path.chmod(stat.S_IRUSR)
        assert "can't be written" in await refusal(path)


async def test_a_read_only_file_system_is_refused_so_too() -> None:
    """Nor may anything be written beside the file, and the journal of an earlier run is there."""
    with without_rights() as parent:
        folder = parent / "data"
        folder.mkdir()
        path = folder / "turnwire.db"
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE other (a)")
        db.close()
        path.chmod(stat.S_IRUSR)
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        try:
            assert "can't be written" in await refusal(path)
        finally:
            folder.chmod(stat.S_IRWXU)


async def test_another_error_of_the_file_is_said_too(tmp_path: Path) -> None:
    """A database whose tables clash with ours can't be used."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE VIEW turns AS SELECT 1")
    db.close()
    assert "can't be used" in await refusal(path)


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


async def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    """What doesn't fit is refused whole, with what to do; reading goes on, and so does writing later."""
    database = Database(str(tmp_path / "turnwire.db"))
    await database.open()
    await database.run(lambda db: db.execute("CREATE TABLE box (a)"))

    def fill(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO box VALUES ('small')")
        db.execute("INSERT INTO box VALUES (?)", (bytes(10_000_000),))

    def count(db: sqlite3.Connection) -> int:
        return int(db.execute("SELECT count(*) FROM box").fetchone()[0])

    await database.run(lambda db: db.execute("PRAGMA max_page_count = 1").fetchone())
    with pytest.raises(StoreError, match=r"disk is full\. Free some space"):
        await database.run(fill)
    assert await database.run(count) == 0
    await database.run(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())
    await database.run(fill)
    assert await database.run(count) == 2
    await database.close()


async def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    """Pages that are no pages any more: the message says that a copy is needed."""
    path = tmp_path / "turnwire.db"
    database = Database(str(path))
    await database.open()
    await database.close()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 8000)
    assert "is damaged. Restore a copy" in await refusal(path)


async def test_what_is_committed_is_published_before_the_call_returns(tmp_path: Path) -> None:
    """In the loop, in the order of the commits; what is rolled back isn't published."""
    database = Database(str(tmp_path / "turnwire.db"))
    await database.open()
    published: list[str] = []

    def work(_: sqlite3.Connection, name: str) -> tuple[str, str]:
        if name == "bad":
            raise KeyError(name)
        return name, f"{name} is kept"

    answers = await asyncio.gather(
        *(database.run_then(published.append, work, name) for name in ("a", "bad", "b")), return_exceptions=True
    )
    assert published == ["a is kept", "b is kept"]
    assert [str(answer) for answer in answers] == ["a", "'bad'", "b"]
    await database.close()


async def test_what_could_not_be_committed_is_not_published(tmp_path: Path) -> None:
    """Also where the work went well and the commit failed."""
    database = Database(str(tmp_path / "turnwire.db"))
    await database.open()
    published: list[str] = []

    def work(db: sqlite3.Connection) -> tuple[None, str]:
        db.execute("PRAGMA defer_foreign_keys = ON")
        db.execute("INSERT INTO log (turn, epoch, first, last, payload) VALUES (99, 1, 1, 1, '')")
        return None, "kept"

    with pytest.raises(StoreError, match="FOREIGN KEY"):
        await database.run_then(published.append, work)
    assert await database.run(lambda db: db.execute("SELECT count(*) FROM log").fetchone()[0]) == 0
    assert published == []
    await database.close()


async def test_what_is_committed_is_published_though_the_caller_was_cancelled(tmp_path: Path) -> None:
    """A cancelled call may be in the file already, and then it is published."""
    database = Database(str(tmp_path / "turnwire.db"))
    await database.open()
    begun, may_commit = asyncio.Event(), threading.Event()
    published: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def work(_: sqlite3.Connection) -> tuple[None, str]:
        loop.call_soon_threadsafe(begun.set)
        may_commit.wait(10)
        return None, "kept"

    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(database.run_then(published.put_nowait, work))
        await begun.wait()
        call.cancel()
    may_commit.set()
    async with asyncio.timeout(10):
        assert await published.get() == "kept"
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
