"""The lock by which only one gateway at a time opens a database."""

from __future__ import annotations

import errno
import os
import sqlite3

from store.errors import StoreError
from store.file_lock import open_lock, try_lock
from store.sqlite.errors import ERROR_TEXTS
from store.sqlite.file_security import USE_ANOTHER_FILE

_CANT_WRITE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def lock_database(path: str) -> int:
    """Lock the database against other gateways and return the lock's file descriptor; closing it unlocks.

    SQLite's own locks let many processes in. Raises `StoreError`.
    """
    try:
        lock = open_lock(path)
    except OSError as error:
        if error.errno in _CANT_WRITE:
            raise StoreError(f"{path} {ERROR_TEXTS[sqlite3.SQLITE_READONLY]}") from error
        raise _unlockable(path, error) from error
    try:
        if try_lock(lock):
            return lock
    except OSError as error:
        os.close(lock)
        raise _unlockable(path, error) from error
    os.close(lock)
    raise StoreError(f"{path} {ERROR_TEXTS[sqlite3.SQLITE_BUSY]}")


def _unlockable(path: str, error: OSError) -> StoreError:
    """Return the error for a database whose lock file can't be opened or locked."""
    return StoreError(f"{path} can't be locked: {error}. Check its folder, or {USE_ANOTHER_FILE}.")
