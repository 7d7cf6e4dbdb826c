"""A SQLite file used by one thread: calls are queued in order, and each is one transaction.

Writes go to the journal (the write-ahead log); a second thread checkpoints it into the file, so that no call waits
for that. Other processes may read the file meanwhile, for example to copy it. This module opens, locks and closes
the file; of its contents it knows only the schema's file name.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from store.records import StoreError
from store.sqlite.private_file import make_private, refuse_planted, warn_of_others

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

MEMORY = ":memory:"
SCHEMA_VERSION = 4
_REFUSALS = {
    sqlite3.SQLITE_BUSY: "is in use by another process. Stop that one, or give another file with --store.",
    sqlite3.SQLITE_CANTOPEN: "can't be opened. Check that its folder exists and may be written.",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database. Give another file with --store.",
    sqlite3.SQLITE_READONLY: "can't be written. Change its permissions, or give another file with --store.",
    sqlite3.SQLITE_FULL: "can't grow: its disk is full. Free some space; nothing of this call was kept.",
    sqlite3.SQLITE_IOERR: "can't be read or written: its disk fails. Check the disk, or restore a copy.",
    sqlite3.SQLITE_CORRUPT: "is damaged. Restore a copy, or give another file with --store.",
}
_CANT_WRITE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
JOURNAL_BYTES = 4 * 2**20
"""A longer journal is copied into the database file (a checkpoint)."""
JOURNAL_BYTES_MAX = 64 * 2**20
"""The length above which a call waits for the checkpoint, because the other thread can't keep up."""
_SCHEMA = Path(__file__).with_name("schema.sql")
_UPGRADES = {version: Path(__file__).with_name(f"schema_from_{version}.sql") for version in (2, 3)}
"""The scripts that upgrade an older version, by that version."""


class Database:
    """A SQLite database in WAL mode that no other gateway can open at the same time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="turnwire-store")
        self._connection: sqlite3.Connection | None = None
        self._journal: _Journal | None = None
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
        return await self._queue(lambda: self._transact(lambda db: work(db, *args, **kwargs)))

    async def run_then(
        self,
        then: Callable[[S], None],
        work: Callable[Concatenate[sqlite3.Connection, P], tuple[T, S]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Do `run` for work that returns (T, S): the event loop calls `then(S)` after the commit; return T.

        `then` is called before T is returned, even if the caller was cancelled: what is committed is always announced.
        """
        loop = asyncio.get_running_loop()

        def transact() -> T:
            answer, said = self._transact(lambda db: work(db, *args, **kwargs))
            loop.call_soon_threadsafe(then, said)
            return answer

        return await self._queue(transact)

    async def _queue(self, call: Callable[[], T]) -> T:
        if not self._is_open:
            raise StoreError("The store is closed.")
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection
        assert connection is not None, "calls are queued, so this one came before the close"
        try:
            before = connection.total_changes
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                answer = work(connection)
            if self._journal is not None and connection.total_changes != before:
                self._journal.carry_over()
            return answer
        except sqlite3.Error as error:
            raise StoreError(_refusal(self._path, error)) from error

    def _open(self) -> None:
        in_file = self._path != MEMORY
        if in_file:
            make_private(self._path)
            refuse_planted(self._path)
        try:
            self._connection = _connect(self._path)
            _check_version(self._connection, self._path)
            if in_file:
                self._lock = _lock(self._path)
            _prepare(self._connection, self._path)
            if in_file:
                self._journal = _Journal(self._path)
                refuse_planted(self._path)  # by now the journals exist
                warn_of_others(self._path)
        except BaseException:
            self._close()
            raise
        self._connection.row_factory = sqlite3.Row

    def _close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class _Journal:
    """Checkpoints a long journal into its file, in a separate thread."""

    def __init__(self, path: str) -> None:
        self._name = f"{path}-wal"
        self._connection = _connect(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="turnwire-journal")
        self._is_busy = False

    def carry_over(self) -> None:
        """Start a checkpoint if the journal is long and none runs. Wait for one if it is far too long."""
        size = os.stat(self._name).st_size
        if size > JOURNAL_BYTES_MAX:
            # This thread writes nothing while it waits: the whole journal is copied, and the next write truncates it.
            self._thread.submit(self._carry_over).result()
        elif size > JOURNAL_BYTES and not self._is_busy:
            self._is_busy = True
            self._thread.submit(self._carry_over)

    def close(self) -> None:
        """Close the connection after the running checkpoint is done."""
        self._thread.shutdown()
        self._connection.close()

    def _carry_over(self) -> None:
        # The next call that writes reports a failing disk; the journal is complete until then.
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._is_busy = False


def _connect(path: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(path, timeout=0.2, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise StoreError(_refusal(path, error)) from error


def _lock(path: str) -> int:
    """Lock the database against other gateways and return the lock's file descriptor; closing it unlocks.

    SQLite's own locks let many processes in. Raises `StoreError`.
    """
    try:
        lock = os.open(
            f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, stat.S_IRUSR | stat.S_IWUSR
        )
    except OSError as error:
        if error.errno in _CANT_WRITE:
            raise StoreError(f"{path} {_REFUSALS[sqlite3.SQLITE_READONLY]}") from error
        raise StoreError(f"{path} can't be locked: {error}. Give another file with --store.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise StoreError(f"{path} {_REFUSALS[sqlite3.SQLITE_BUSY]}") from error
        raise StoreError(f"{path} can't be locked: {error}. Give another file with --store.") from error
    return lock


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_version(connection: sqlite3.Connection, path: str) -> None:
    """Raise `StoreError` for a file that isn't a store of a known version.

    The check comes before anything is written to the file or beside it.
    """
    try:
        version = _version(connection)
    except sqlite3.Error as error:
        raise StoreError(_refusal(path, error)) from error
    if version not in (0, SCHEMA_VERSION, *_UPGRADES):
        raise StoreError(f"{path} was written by another version of Turnwire ({version}). Use another file.")


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    try:
        version = _version(connection)  # by now no other gateway can change it
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # the journal's thread does that
        connection.execute("PRAGMA journal_size_limit = 0")  # truncate the journal after a checkpoint
        connection.execute("PRAGMA foreign_keys = ON")
        connection.create_function("casefold", 1, str.casefold, deterministic=True)
        connection.execute("PRAGMA temp_store = MEMORY")
        scripts = [_SCHEMA, *(_UPGRADES[older] for older in _UPGRADES if 0 < version <= older)]
        changes = "".join(script.read_text(encoding="utf-8") for script in scripts)
        connection.executescript(f"BEGIN IMMEDIATE; {changes} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    except sqlite3.Error as error:
        raise StoreError(_refusal(path, error)) from error


def _refusal(path: str, error: sqlite3.Error) -> str:
    """Return what SQLite's error means for this file, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_IOERR and not os.access(
        path, os.W_OK, effective_ids=os.access in os.supports_effective_ids
    ):
        code = sqlite3.SQLITE_READONLY  # for a read-only file system SQLite says only that writing failed
    meaning = _REFUSALS.get(code)
    return f"{path} can't be used: {error}." if meaning is None else f"{path} {meaning}"
