"""A lock for changes of the schema of a SQLite file, one process at a time.

SQLite's own locks give up after some seconds, but an upgrade of much data takes longer.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

RETRY_S = 0.1


@asynccontextmanager
async def schema_lock(path: str | None) -> AsyncIterator[None]:
    """Hold the lock of a SQLite file, which ends with the process. Without a path, and so for a server, do nothing.

    If the file can't be locked, go on without a lock: either SQLite will say what is wrong with the file, or its file system
    has no locks.
    """
    if path is None:
        yield
        return
    try:
        lock = _open(path)
    except OSError:
        yield
        return
    try:
        while _is_locked_by_another(lock):  # noqa: ASYNC110 - another process can't set an event
            await asyncio.sleep(RETRY_S)
        yield
    finally:
        os.close(lock)


def _open(path: str) -> int:
    return os.open(
        f"{os.path.realpath(path)}-lock",
        os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
        stat.S_IRUSR | stat.S_IWUSR,
    )


def _is_locked_by_another(lock: int) -> bool:
    """Lock the file unless another process has done so, and return whether it has."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
