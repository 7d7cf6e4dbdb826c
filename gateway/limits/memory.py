"""The process's memory: above a bound, new work is refused, before the system kills the process."""

from __future__ import annotations

import asyncio
import ctypes
import os
from contextlib import suppress
from pathlib import Path

import structlog

from gateway.protocol.errors import ApiError

log = structlog.stdlib.get_logger("turnwire.gateway")

CHECK_INTERVAL_S = 0.5
RETRY_AFTER_MS = 2000
CGROUP_SHARE = 0.85
"""The share of the container's memory that is the default bound.

Other processes in the container and work that is already admitted need the rest.
"""

LARGE_BLOCK_BYTES = 2**20
_M_MMAP_THRESHOLD = -3
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_STATM = Path("/proc/self/statm")
_HAS_STATM = _STATM.exists()
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_UNLIMITED_BYTES = 2**50
"""Older kernels report no limit as a number at least this large."""


class Memory:
    """The bound on the process's resident memory.

    `bytes_max` is the bound. 0 means `CGROUP_SHARE` of what the container may have, and no bound if the container has
    no limit.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max or int(CGROUP_SHARE * cgroup_limit_bytes())
        self.is_full = False

    def check(self) -> None:
        """Check that there is memory for new work.

        Raise `ApiError` "rate_limited" if not.
        """
        if self.is_full:
            raise ApiError(
                "rate_limited",
                "This instance has no memory left for new work. Try again in a moment, or on another instance.",
                retry_after_ms=RETRY_AFTER_MS,
            )

    async def run(self) -> None:
        """Check the memory periodically until cancelled.

        Return at once if there is no bound, or if the system doesn't report the process's memory.
        """
        _release_large_blocks()
        while self.bytes_max and _HAS_STATM:
            self.update()
            await asyncio.sleep(CHECK_INTERVAL_S)

    def update(self) -> None:
        """Measure the resident memory and update `is_full`.

        Above the bound, freed memory that the C library keeps is given back to the system first.
        """
        resident = resident_bytes()
        if resident > self.bytes_max:
            _trim_heap()
            resident = resident_bytes()
        if (resident > self.bytes_max) != self.is_full:
            self.is_full = not self.is_full
            log.warning(
                "memory limit reached" if self.is_full else "memory below the limit again",
                resident_bytes=resident,
                limit_bytes=self.bytes_max,
            )


def resident_bytes() -> int:
    """Return the process's resident memory in bytes (Linux)."""
    return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES


def cgroup_limit_bytes() -> int:
    """Return the container's memory limit in bytes; 0 means no limit."""
    for path in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):
            limit = int(path.read_text())
            return limit if limit < _UNLIMITED_BYTES else 0
    return 0


def _trim_heap() -> None:
    """Return to the system the freed memory that the C library has kept (only with glibc)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _release_large_blocks() -> None:
    """Let glibc return large blocks to the system as soon as they are freed.

    By default, it returns the first freed blocks of some megabytes, but keeps later ones of that size.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
