"""One SQLite file behind one thread: calls are queued in order, each is one transaction.

Knows how to open, lock and close the file, and nothing of what is in it but the schema's file name.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from store.base import StoreError
from store.private_file import make_private, refuse_planted, warn_of_others

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
_SCHEMA = Path(__file__).with_name("embedded.sql")
_UPGRADES = {version: Path(__file__).with_name(f"embedded_from_{version}.sql") for version in (2, 3)}
"""What makes the next version of an older one."""


class Database:
    """A SQLite database in WAL mode that this process alone may open."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="turnwire-store")
        self._connection: sqlite3.Connection | None = None
        self._is_open = False

    async def open(self) -> None:
        """Open or make the file. Raises `StoreError` with what to do."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        self._is_open = True

    async def close(self) -> None:
        """Let the file go, after all queued calls."""
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
        """Run `work(connection, …)` in a transaction of its own; it commits unless it raises."""
        return await self._queue(lambda: self._transact(lambda db: work(db, *args, **kwargs)))

    async def run_then(
        self,
        then: Callable[[S], None],
        work: Callable[Concatenate[sqlite3.Connection, P], tuple[T, S]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As `run`, for work that answers (T, S): the loop calls `then(S)` after the commit, before T.

        It does so also if the caller was cancelled meanwhile: what is committed is said.
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
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                return work(connection)
        except sqlite3.Error as error:
            raise StoreError(_refusal(self._path, error)) from error

    def _open(self) -> None:
        in_file = self._path != MEMORY
        if in_file:
            make_private(self._path)
            refuse_planted(self._path)
        try:
            connection = sqlite3.connect(self._path, timeout=0.2, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise StoreError(_refusal(self._path, error)) from error
        try:
            _prepare(connection, self._path)
            if in_file:
                refuse_planted(self._path)  # by now the journals are there
                warn_of_others(self._path)
        except BaseException:
            connection.close()
            raise
        connection.row_factory = sqlite3.Row
        self._connection = connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION, *_UPGRADES):
            raise StoreError(f"{path} was written by another version of Turnwire ({version}). Use another file.")
        # Only now: the journal's mode is written to the file, and another version's isn't ours to change.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.create_function("casefold", 1, str.casefold, deterministic=True)
        connection.execute("PRAGMA temp_store = MEMORY")
        scripts = [_SCHEMA, *(_UPGRADES[older] for older in _UPGRADES if 0 < version <= older)]
        changes = "".join(script.read_text(encoding="utf-8") for script in scripts)
        connection.executescript(f"BEGIN IMMEDIATE; {changes} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    except sqlite3.Error as error:
        raise StoreError(_refusal(path, error)) from error


def _refusal(path: str, error: sqlite3.Error) -> str:
    """What SQLite's error means for this file, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_IOERR and not os.access(
        path, os.W_OK, effective_ids=os.access in os.supports_effective_ids
    ):
        code = sqlite3.SQLITE_READONLY  # of a file system that is read-only it says no more than that writing fails
    meaning = _REFUSALS.get(code)
    return f"{path} can't be used: {error}." if meaning is None else f"{path} {meaning}"
