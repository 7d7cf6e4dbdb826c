"""Measurements of a process by the operating system: CPU seconds, memory, open files. Linux only."""

from __future__ import annotations

import os
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
KIB = 1024


def cpu_s(pid: int) -> float:
    """Return the user and system time of the process in seconds, with a resolution of 0.01 s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def memory_bytes(pid: int) -> int:
    """Return the private memory of the process in bytes."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Dirty:", "Private_Clean:")):
            total += int(line.split()[1]) * KIB
    return total


def open_files(pid: int) -> int:
    """Return the number of open file descriptors of the process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
