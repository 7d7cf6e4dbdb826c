"""Measurements of a process by the operating system: CPU seconds, memory, open files. Linux only."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
KIB = 1024


def cpu_s(pid: int) -> float:
    """Return the user and system time of the process in seconds, with a resolution of 0.01 s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def tree_cpu_s(pid: int) -> float:
    """Return the user and system time of the process, its children and those children that have ended, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    total = sum(int(field) for field in fields[11:15]) / TICKS_PER_S
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(FileNotFoundError):
            total += cpu_s(int(child))
    return total


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
