"""What the process takes of the machine's memory: near its bound it takes no new work, before the system kills it."""

from __future__ import annotations

import asyncio
import ctypes
import os
from contextlib import suppress
from pathlib import Path

import structlog

from gateway.protocol.errors import ApiError

log = structlog.stdlib.get_logger("turnwire.gateway")

LOOK_S = 0.5
RETRY_AFTER_MS = 2000
OF_CGROUP = 0.85
"""What else is in the container needs some of it, and so does what has been let in."""

LARGE_BLOCK_BYTES = 2**20
_M_MMAP_THRESHOLD = -3
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_STATM = Path("/proc/self/statm")
_TELLS = _STATM.exists()
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_UNLIMITED_BYTES = 2**50
"""Older kernels write a number as large as this for no limit."""


class Memory:
    """`bytes_max`: the bound; 0: most of what the container may have, and none where nothing bounds that."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max or int(OF_CGROUP * cgroup_bytes())
        self.is_full = False

    def check(self) -> None:
        """Raises `ApiError` "rate_limited" while there is no room for new work."""
        if self.is_full:
            raise ApiError(
                "rate_limited",
                "This instance has no memory left for more. Try again soon, or at another one.",
                retry_after_ms=RETRY_AFTER_MS,
            )

    async def keep(self) -> None:
        """Look until cancelled; where the system doesn't say what is taken, there is no bound."""
        _keep_no_large_blocks()
        while self.bytes_max and _TELLS:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """See what is taken now; what was freed and is kept for later is given back first."""
        taken = taken_bytes()
        if taken > self.bytes_max:
            _give_back()
            taken = taken_bytes()
        if (taken > self.bytes_max) != self.is_full:
            self.is_full = not self.is_full
            log.warning(
                "memory is used up" if self.is_full else "memory is free again", taken=taken, bound=self.bytes_max
            )


def taken_bytes() -> int:
    """What the process has resident (Linux)."""
    return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES


def cgroup_bytes() -> int:
    """What the container may have; 0: as much as there is."""
    for path in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):
            limit = int(path.read_text())
            return limit if limit < _UNLIMITED_BYTES else 0
    return 0


def _give_back() -> None:
    """What the C library keeps of freed memory goes back to the system, where it can be asked (glibc)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _keep_no_large_blocks() -> None:
    """Requests of megabytes go back to the system when they are freed; else glibc learns to keep blocks of that size."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
