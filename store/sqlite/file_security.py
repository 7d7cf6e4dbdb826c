"""Protection of the SQLite file from other users: only its owner can access a new file, and an existing one is checked.

A user who may write in its folder can create the file or SQLite's journals before the gateway does, or replace them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

import structlog

from store.errors import StoreError

log = structlog.stdlib.get_logger("turnwire.store")

SUFFIXES = ("", "-wal", "-shm", "-journal", "-lock")
"""The suffixes of the files that SQLite uses for one database, and of the gateway's own lock."""
USE_ANOTHER_FILE = "use another file with --store"
ACCESS_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO
WRITE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def create_private(path: str) -> None:
    """Create the file, accessible to its owner only, if it doesn't exist.

    SQLite gives its journals the same permissions. An error is ignored here: SQLite reports it too.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR))


def check_owners(path: str) -> None:
    """Raise `StoreError` if a file belongs to another user and others may write in its folder, as in /tmp.

    Root is trusted, and so is the owner of the folder, who can replace any file in it anyway.
    """
    for database, folder in _locations(path):
        trusted = {os.geteuid(), folder.st_uid, 0}
        for name, file in _files(database):
            if folder.st_mode & WRITE_BY_OTHERS and file.st_uid not in trusted:
                raise StoreError(
                    f"{name} belongs to another user (uid {file.st_uid}), in a folder where others may write. If the"
                    f" file is yours, run chown; if not, {USE_ANOTHER_FILE}."
                )


def warn_if_exposed(path: str) -> None:
    """Log a warning with a remedy if other users can access the file or replace it."""
    for database, folder in _locations(path):
        folder_path = os.path.dirname(database)
        if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
            log.warning(
                "the folder of the store's file is writable by all users, who can replace the file: run chmod o-w",
                folder=folder_path,
            )
        if folder.st_uid not in {os.geteuid(), 0}:
            log.warning(
                "another user owns the folder of the store's file and can replace the file: run chown, or use another folder",
                folder=folder_path,
                uid=folder.st_uid,
            )
        for name, file in _files(database):
            if stat.S_ISREG(file.st_mode) and file.st_mode & ACCESS_BY_OTHERS:
                mode = f"{stat.S_IMODE(file.st_mode):o}"
                log.warning("the store's file is accessible to other users: run chmod 600", file=name, mode=mode)


def _locations(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the file's absolute path, as given and with symbolic links resolved, each with its folder's status."""
    for database in sorted({os.path.abspath(path), os.path.realpath(path)}):
        with suppress(OSError):
            yield database, os.stat(os.path.dirname(database))


def _files(database: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the name and status of each existing file of the database; a symbolic link isn't followed."""
    for suffix in SUFFIXES:
        with suppress(OSError):
            yield database + suffix, os.lstat(database + suffix)
