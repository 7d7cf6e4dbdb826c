"""A SQLite file used by one thread: calls are queued in order, and each is one transaction.

Writes go to the journal (the write-ahead log); a second thread checkpoints it into the file, so that a call waits for
that only if the journal has grown too long. Other processes may read the file meanwhile, for example to copy it. This
module opens, locks and closes the file, and creates or upgrades its tables with the SQL scripts beside this module.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from store.errors import CLOSED, StoreError
from store.local_pubsub import LocalPubSub
from store.sqlite.errors import translated_errors
from store.sqlite.file_security import USE_ANOTHER_FILE, check_owners, create_private, warn_if_exposed
from store.sqlite.flushes import Flushes
from store.sqlite.journal import Checkpointer
from store.sqlite.lock import lock_database

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

MEMORY = ":memory:"
SCHEMA_VERSION = 9
_SCHEMA = Path(__file__).with_name("schema.sql")
_INDEXES = Path(__file__).with_name("indexes.sql")
_UPGRADES = {version: Path(__file__).with_name(f"schema_from_{version}.sql") for version in (2, 3, 4, 5, 6, 7, 8)}
"""The scripts that upgrade an older version, by that version."""


class Database:
    """A SQLite database in WAL mode that no other gateway can open at the same time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.flushes = Flushes()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="turnwire-store")
        self._connection: sqlite3.Connection | None = None
        self._checkpointer: Checkpointer | None = None
        self._reader: _Reader | None = None
        self._lock: int | None = None
        self._is_open = False

    async def open(self) -> None:
        """Open the file, or create it. Raises `StoreError` with a message that says what to do."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        self._is_open = True

    async def close(self) -> None:
        """Close the file after all queued calls have run."""
        if self._is_open:
            self._is_open = False
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def run(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `work(connection, …)` in its own transaction and return its result; commit unless it raises.

        Raises `StoreError` if SQLite fails.
        """
        return await self._submit(lambda: self._transact(lambda db: work(db, *args, **kwargs)))

    async def run_then(
        self,
        then: Callable[[S], None],
        work: Callable[Concatenate[sqlite3.Connection, P], tuple[T, S]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `work` as `run` does. It returns a pair (T, S): the event loop calls `then(S)` after the commit. Return T.

        `then` is called before T is returned, and also if the caller was cancelled: what is committed is always published.
        """
        loop = asyncio.get_running_loop()

        def transact() -> T:
            result, extra = self._transact(lambda db: work(db, *args, **kwargs))
            loop.call_soon_threadsafe(then, extra)
            return result

        return await self._submit(transact)

    async def read(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `work(connection, …)`, which only reads and may take long, and return its result.

        It sees one state of the database, which includes the changes of every call that has already returned. Other calls
        don't wait for it, unless the database is in memory. Raises `StoreError` if SQLite fails.
        """
        reader = self._reader
        if reader is None or not self._is_open:
            return await self.run(work, *args, **kwargs)

        def read() -> T:
            with translated_errors(self._path):
                return reader.run(lambda db: work(db, *args, **kwargs))

        return await asyncio.get_running_loop().run_in_executor(reader.thread, read)

    async def truncate_journal(self) -> bool:
        """Copy the whole journal into the file and empty it. Return False if that isn't possible now."""
        checkpointer = self._checkpointer
        return checkpointer is None or await self._submit(checkpointer.truncate)

    async def _submit(self, call: Callable[[], T]) -> T:
        if not self._is_open:
            raise StoreError(CLOSED)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection
        assert connection is not None, "calls are queued, so this one came before the close"
        with translated_errors(self._path):
            before = connection.total_changes
            try:
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    self.flushes.begin(connection)
                    result = work(connection)
            except BaseException:
                self.flushes.roll_back()
                raise
            self.flushes.commit()
            if self._checkpointer is not None and connection.total_changes != before:
                self._checkpointer.checkpoint_if_long()
            return result

    def _open(self) -> None:
        in_file = self._path != MEMORY
        if in_file:
            create_private(self._path)
            check_owners(self._path)
        try:
            with translated_errors(self._path):
                self._connection = _connect(self._path)
                _check_version(self._connection, self._path)
                if in_file:
                    self._lock = lock_database(self._path)
                _set_up(self._connection)
                self.flushes.connect(self._connection)
                if in_file:
                    real_path = os.path.realpath(self._path)
                    self._checkpointer = Checkpointer(real_path, _connect(real_path))
                    self._reader = _Reader(real_path)
                    check_owners(self._path)  # by now the journals exist
                    warn_if_exposed(self._path)
        except BaseException:
            self._close()
            raise
        self._connection.row_factory = sqlite3.Row

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._checkpointer is not None:
            self._checkpointer.close()
            self._checkpointer = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class SqlitePart(LocalPubSub):
    """The base class of the store's parts, which share a `Database`."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._db = database


class _Reader:
    """Runs long reads in a separate thread, one after the other."""

    def __init__(self, path: str) -> None:
        self._connection = _connect(path)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA query_only = ON")
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="turnwire-reader")

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in this thread, in one transaction."""
        self._connection.execute("BEGIN")
        try:
            return work(self._connection)
        finally:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Interrupt the running read, wait until it has ended, and close the connection."""
        self._connection.interrupt()
        self.thread.shutdown(cancel_futures=True)
        self._connection.close()


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0.2, isolation_level=None, check_same_thread=False)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_version(connection: sqlite3.Connection, path: str) -> None:
    """Raise `StoreError` for a file of an unknown version. A new file has version 0.

    The check comes before anything is written to the file or beside it.
    """
    version = _version(connection)
    if version not in (0, SCHEMA_VERSION, *_UPGRADES):
        raise StoreError(
            f"{path} was written by another version of Turnwire ({version}). Use that version, or {USE_ANOTHER_FILE}."
        )


def _set_up(connection: sqlite3.Connection) -> None:
    """Configure the connection, and create or upgrade the schema."""
    version = _version(connection)  # by now no other gateway can change it
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # the checkpointer's thread does that
    connection.execute("PRAGMA journal_size_limit = 0")  # truncate the journal after a checkpoint
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten with zeros: see `erase_user`
    scripts = [_SCHEMA, *(_UPGRADES[older] for older in _UPGRADES if 0 < version <= older), _INDEXES]
    changes = "".join(script.read_text(encoding="utf-8") for script in scripts)
    connection.executescript(f"BEGIN IMMEDIATE; {changes} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
