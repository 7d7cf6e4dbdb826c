"""The SQLite file is its owner's alone: made so, and looked at before anything of it is read.

Who may write in its folder can put files there before us, SQLite's journals too, or in place of ours.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

import structlog

from store.records import StoreError

log = structlog.stdlib.get_logger("turnwire.store")

ENDINGS = ("", "-wal", "-shm", "-journal", "-lock")
"""Of the files that SQLite reads and writes for one database, and of the gateway's own lock."""
OTHERS = stat.S_IRWXG | stat.S_IRWXO
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make_private(path: str) -> None:
    """Make the file where there is none. SQLite gives its journals the same rights; what goes wrong it says, too."""
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR))


def refuse_planted(path: str) -> None:
    """Raises `StoreError` for what another user put into a folder where others may write, such as /tmp.

    Root is trusted, and so is the owner of the folder, who can do as they like there.
    """
    for place, folder in _places(path):
        trusted = {os.geteuid(), folder.st_uid, 0}
        for name, file in _files(place):
            if folder.st_mode & OTHERS_WRITE and file.st_uid not in trusted:
                raise StoreError(
                    f"{name} belongs to another user (uid {file.st_uid}), in a folder where others may write. If it is"
                    " yours, chown it; else give another file with --store."
                )


def warn_of_others(path: str) -> None:
    """Say in the log who else can read the file, or put another in its place, and how to mend it."""
    for place, folder in _places(path):
        where = os.path.dirname(place)
        if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
            log.warning("everybody may write in the store's folder, and replace its file: chmod o-w it", folder=where)
        if folder.st_uid not in {os.geteuid(), 0}:
            log.warning(
                "the store's folder belongs to another user, who may replace its file: chown it, or give another one",
                folder=where,
                uid=folder.st_uid,
            )
        for name, file in _files(place):
            if stat.S_ISREG(file.st_mode) and file.st_mode & OTHERS:
                mode = f"{stat.S_IMODE(file.st_mode):o}"
                log.warning("others may read conversations in the store's file: chmod 600 it", file=name, mode=mode)


def _places(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Where the file is said to be, and where it is, with the folder of each."""
    for place in sorted({os.path.abspath(path), os.path.realpath(path)}):
        with suppress(OSError):
            yield place, os.stat(os.path.dirname(place))


def _files(place: str) -> Iterator[tuple[str, os.stat_result]]:
    """The files that there are, as they stand in the folder: a link is a link."""
    for ending in ENDINGS:
        with suppress(OSError):
            yield place + ending, os.lstat(place + ending)
