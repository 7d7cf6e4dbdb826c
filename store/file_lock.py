"""The lock of a SQLite file: a file beside it, which a process locks and which the system unlocks when the process ends."""

from __future__ import annotations

import fcntl
import os
import stat


def open_lock(path: str) -> int:
    """Open the lock file of the SQLite file `path`, and create it if needed. Return its descriptor; closing it unlocks.

    Raises `OSError`.
    """
    return os.open(
        f"{os.path.realpath(path)}-lock",
        os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
        stat.S_IRUSR | stat.S_IWUSR,
    )


def try_lock(lock: int) -> bool:
    """Lock the file `lock` unless another process has done so. Return whether it is locked now. Raises `OSError`."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
