"""A consistent copy of the database, also while a gateway uses it."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path

from store.errors import StoreError


def back_up(path: str, copy: str) -> int:
    """Copy the database `path` to the new file `copy`, which only its owner can access. Return its size in bytes.

    The copy has the state at one moment. A gateway that uses the database continues to write meanwhile. Raises
    `StoreError` with a message that says what to do, and then leaves no new file.
    """
    if not Path(path).is_file():
        raise StoreError(f"{path} doesn't exist. Name the store with --store sqlite:///FILE.")
    try:
        os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR))
    except FileExistsError:
        raise StoreError(f"{copy} exists already. Choose another name for the backup.") from None
    except OSError as error:
        raise StoreError(f"{copy} can't be created: {error.strerror}. Choose another folder.") from error
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            # `Connection.backup` would begin again after each write of the gateway.
            database.execute("VACUUM INTO ?", (copy,))
        with open(copy, "rb") as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size
    except BaseException as error:
        with suppress(OSError):
            os.unlink(copy)
        if isinstance(error, OSError | sqlite3.Error):
            raise StoreError(f"{path} can't be copied to {copy}: {error}. Check both disks, then try again.") from error
        raise
