"""A lock for changes of the schema of a SQLite file, one process at a time.

SQLite's own locks give up after some seconds, but an upgrade of much data takes longer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from store.file_lock import open_lock, try_lock

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
        lock = open_lock(path)
    except OSError:
        yield
        return
    try:
        while _is_locked_by_another(lock):  # noqa: ASYNC110 - another process can't set an event
            await asyncio.sleep(RETRY_S)
        yield
    finally:
        os.close(lock)


def _is_locked_by_another(lock: int) -> bool:
    """Lock the file unless another process has done so, and return whether it has."""
    try:
        return not try_lock(lock)
    except OSError:
        return False
