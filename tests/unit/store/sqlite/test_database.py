"""A SQLite file is opened by one process at a time. Each call is a transaction, and its result is published after the commit.

Each problem with the file is explained in a sentence.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from store.errors import StoreError
from store.records import Change
from store.sqlite.database import SCHEMA_VERSION, Database
from store.sqlite.journal import CHECKPOINT_BYTES, JOURNAL_BYTES_MAX
from store.sqlite.store import SqliteStore
from tests.stored import conversation, say
from tests.unit.store.sqlite.index import indexed

NOBODY = 65534
COPY = "import sqlite3, sys; a, b = map(sqlite3.connect, sys.argv[1:]); a.backup(b); b.close()"


async def refusal(path: Path | str) -> str:
    database = Database(str(path))
    with pytest.raises(StoreError) as refused:
        await database.open()
    await database.close()
    return str(refused.value)


@contextmanager
def unprivileged_folder() -> Iterator[Path]:
    """Yield a folder where this process, even if it is run by root, can't write to read-only files."""
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
    """A file in use can't be opened a second time. After it is closed, it can be opened again."""
    path = tmp_path / "turnwire.db"
    first = Database(str(path))
    await first.open()
    assert "is in use by another process" in await refusal(path)
    await first.close()
    second = Database(str(path))
    await second.open()
    await second.close()


async def test_another_process_can_back_up_the_file(tmp_path: Path) -> None:
    """A backup of a database in use has all data that was committed before the backup began."""
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
    with closing(sqlite3.connect(copy)) as copied, copied:
        assert copied.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert copied.execute("SELECT a FROM box LIMIT 1").fetchone()[0] == "before"
    copied.close()


async def test_a_long_journal_is_checkpointed(tmp_path: Path) -> None:
    """A long journal is checkpointed between calls. If it still grows, calls wait for a checkpoint. `close` deletes it."""
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
    database._checkpointer._is_busy = True  # as if its thread never ran
    for _ in range(40):
        await database.run(write, CHECKPOINT_BYTES)
        assert journal.stat().st_size < JOURNAL_BYTES_MAX + 2 * CHECKPOINT_BYTES
    await database.close()
    assert not journal.exists()
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute("SELECT count(*) FROM box WHERE length(a) > 1").fetchone()[0] == 41
    db.close()


async def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    """A file that isn't a database is refused and not changed."""
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, " * 500)
    assert "isn't a SQLite database" in await refusal(path)
    assert path.read_text().startswith("Dear diary")
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The error names the file and says to check the folder."""
    message = await refusal(tmp_path / "nowhere" / "turnwire.db")
    assert "nowhere" in message
    assert "folder" in message


async def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder can't be opened, and the error names it."""
    assert str(tmp_path) in await refusal(tmp_path)


@pytest.mark.parametrize("version", [1, SCHEMA_VERSION + 1])
async def test_another_schema_is_refused(tmp_path: Path, version: int) -> None:
    """A file of an unsupported earlier or later version is refused and not changed."""
    path = tmp_path / "turnwire.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    before = path.read_bytes()
    message = await refusal(path)
    assert f"another version of Turnwire ({version})" in message
    assert "another file" in message
    assert path.read_bytes() == before


async def test_a_read_only_file_is_refused() -> None:
    """The error says that the file can't be written."""
    with unprivileged_folder() as folder:
        path = folder / "turnwire.db"
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE other (a)")
        db.close()
        path.chmod(stat.S_IRUSR)
        assert "can't be written" in await refusal(path)


async def test_a_read_only_folder_is_refused() -> None:
    """The error is the same if the folder is read-only too and the database is in WAL mode."""
    with unprivileged_folder() as parent:
        folder = parent / "data"
        folder.mkdir()
        path = folder / "turnwire.db"
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE other (a)")
        db.close()
        path.chmod(stat.S_IRUSR)
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        try:
            assert "can't be written" in await refusal(path)
        finally:
            folder.chmod(stat.S_IRWXU)


async def test_conflicting_tables_are_refused(tmp_path: Path) -> None:
    """A database whose tables conflict with those of the store is refused."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE VIEW turns AS SELECT 1")
    db.close()
    assert "can't be used" in await refusal(path)


async def test_a_failed_call_changes_nothing(tmp_path: Path) -> None:
    """Each call is one transaction, which is committed completely or not at all; the next call works."""
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


async def test_a_full_disk_is_explained_and_survived(tmp_path: Path) -> None:
    """A write that doesn't fit is rolled back, and the error says what to do; reads and later writes work."""
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


async def test_a_damaged_file_is_explained(tmp_path: Path) -> None:
    """If pages of the file are damaged, the error says to restore a copy."""
    path = tmp_path / "turnwire.db"
    database = Database(str(path))
    await database.open()
    await database.close()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 8000)
    assert "is damaged. Restore a copy" in await refusal(path)


async def test_a_commit_is_published_before_the_call_returns(tmp_path: Path) -> None:
    """Results are published in the order of the commits. Calls that were rolled back aren't published."""
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


async def test_a_failed_commit_is_not_published(tmp_path: Path) -> None:
    """Nothing is published if the work of a call succeeds but its commit fails."""
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


async def test_a_commit_is_published_if_the_caller_was_cancelled(tmp_path: Path) -> None:
    """If the caller is cancelled while its call runs, the call is committed and published all the same."""
    database = Database(str(tmp_path / "turnwire.db"))
    await database.open()
    started, may_commit = asyncio.Event(), threading.Event()
    published: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def work(_: sqlite3.Connection) -> tuple[None, str]:
        loop.call_soon_threadsafe(started.set)
        may_commit.wait(10)
        return None, "kept"

    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(database.run_then(published.put_nowait, work))
        await started.wait()
        call.cancel()
    may_commit.set()
    async with asyncio.timeout(10):
        assert await published.get() == "kept"
    await database.close()


async def test_calls_are_executed_in_order(tmp_path: Path) -> None:
    """Calls are executed in order, including those that were made before `close`."""
    database = Database(str(tmp_path / "turnwire.db"))
    await database.open()
    executed: list[int] = []
    async with asyncio.TaskGroup() as tasks:
        for n in range(20):
            tasks.create_task(database.run(lambda _, n=n: executed.append(n)))  # type: ignore[misc]
        await asyncio.sleep(0)
        tasks.create_task(database.close())
    assert executed == list(range(20))


async def test_a_call_before_open_fails() -> None:
    """A call before `open` raises `StoreError`."""
    database = Database(":memory:")
    with pytest.raises(StoreError, match="closed"):
        await database.run(lambda _: None)
    await database.close()


async def test_a_link_to_a_file_is_that_file(tmp_path: Path) -> None:
    """A file that is opened through a symbolic link works, and a second gateway is refused by either name."""
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "turnwire.db")
    database = Database(str(link))
    await database.open()
    await database.run(lambda db: db.execute("CREATE TABLE made (n)"))
    for path in (link, tmp_path / "turnwire.db"):
        with pytest.raises(StoreError, match="in use by another process"):
            await Database(str(path)).open()
    await database.close()


WITHOUT_PINS = (
    "DROP INDEX conversations_pinned; ALTER TABLE conversations DROP COLUMN pinned;"
    "DROP TABLE flushes; ALTER TABLE log DROP COLUMN flushes;"
)
"""Makes a file of version 7 or older out of one of version 9."""


async def test_messages_of_an_older_file_are_found(tmp_path: Path) -> None:
    """A file from before the search in messages opens at once. Its messages are found before they are in the index, and
    after; its conversations have no retention."""
    path = tmp_path / "turnwire.db"
    store = SqliteStore(str(path))
    await store.open()
    await store.create_conversation(conversation())
    for n in range(300):
        await say(store, "c1", f"word{n} needle")
    await store.close()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "DROP TABLE message_words; DROP TABLE searches; DROP TABLE removed_messages; DROP TRIGGER message_leaves_search;"
            "DROP INDEX conversations_by_age; DROP INDEX conversations_by_expiry; DROP INDEX notes_by_user;"
            f"{WITHOUT_PINS}"
            "ALTER TABLE conversations DROP COLUMN retention_days; ALTER TABLE notes DROP COLUMN user; PRAGMA user_version = 5;"
        )
    store = SqliteStore(str(path))
    await store.open()
    assert (await store.conversation("ann", "c1")).retention_days is None
    for _ in range(2):
        (found,) = (await store.search("ann", "word7", 9, None))[0]
        assert found.snippet is not None
        assert found.snippet.startswith("word7")
        (last,) = (await store.search("ann", "needle", 9, None))[0]
        assert last.snippet == "word299 needle"
        await store.index_user("ann")
    await store.erase_user("ann")
    assert await store.search("ann", "needle", 9, None) == ([], False)
    await store.close()


async def test_the_index_of_version_6_is_kept(tmp_path: Path) -> None:
    """Version 6 had one number for all users: up to it, messages are indexed. They are found once, and aren't indexed again."""
    path = tmp_path / "turnwire.db"
    store = SqliteStore(str(path))
    await store.open()
    for user in ("ann", "bob"):
        await store.create_conversation(conversation(user=user))
        await say(store, "c1", "an old needle", user=user)
        await store.index_user(user)
    await store.close()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "CREATE TABLE search_state (id INTEGER PRIMARY KEY CHECK (id = 1), indexed INTEGER NOT NULL);"
            "INSERT INTO search_state SELECT 1, max(n) FROM messages; DROP TABLE searches; DROP TRIGGER message_leaves_search;"
            "CREATE TRIGGER message_leaves_search AFTER DELETE ON messages BEGIN"
            " INSERT OR IGNORE INTO removed_messages (n) SELECT old.n FROM search_state WHERE old.n <= indexed; END;"
            f"{WITHOUT_PINS} PRAGMA user_version = 6;"
        )
    store = SqliteStore(str(path))
    await store.open()
    await say(store, "c1", "a new needle")
    for user, count in (("ann", 2), ("bob", 1)):
        await store.index_user(user)
        assert len((await store.search(user, "needle", 9, None))[0]) == 1
        assert indexed(path, user, "needle") == count
    await store.delete_conversation("ann", "c1")
    await store.unindex_removed()
    await store.close()
    assert (indexed(path, "ann", "needle"), indexed(path, "bob", "needle")) == (0, 1)


async def test_conversations_of_version_7_can_be_pinned(tmp_path: Path) -> None:
    """They aren't pinned in a file that has no place for it yet."""
    path = tmp_path / "turnwire.db"
    store = SqliteStore(str(path))
    await store.open()
    await store.create_conversation(conversation())
    await store.close()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"{WITHOUT_PINS} PRAGMA user_version = 7;")
    store = SqliteStore(str(path))
    await store.open()
    assert not (await store.conversation("ann", "c1")).pinned
    assert (await store.update_conversation("ann", "c1", Change(pinned=True), 1)).pinned
    await store.close()
