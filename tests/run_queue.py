"""The delay that a shared machine adds: how long processes were ready to run while it ran others (Linux)."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from contextlib import suppress


class RunQueue:
    """The time that all threads of the given processes waited for a core, sampled on request; 0 if the kernel doesn't
    report it.

    All threads are included: a thread that holds the interpreter's lock and waits for a core blocks the others, too.
    """

    def __init__(self, *pids: int) -> None:
        self._folders = [folder for pid in pids if os.path.exists(f"{(folder := f'/proc/{pid}/task')}/{pid}/schedstat")]
        self._files: dict[str, int] = {}
        self._waits: dict[str, int] = {}
        self._times: list[float] = []
        self._waited: list[float] = []

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def sample(self) -> float:
        """Record the time waited until now, and return the current monotonic time in seconds."""
        now = time.monotonic()
        for folder in self._folders:
            for thread in os.listdir(folder):
                with suppress(OSError):  # the thread has ended
                    self._read(f"{folder}/{thread}/schedstat")
        self._times.append(now)
        self._waited.append(sum(self._waits.values()) / 1e9)
        return now

    def _read(self, path: str) -> None:
        if path not in self._files:
            self._files[path] = os.open(path, os.O_RDONLY)
        self._waits[path] = int(os.pread(self._files[path], 64, 0).split()[1])

    def waited_s(self, begin: float, end: float) -> float:
        """Return how long the processes waited between two moments; between two samples the waiting is interpolated."""
        return self._waited_at(end) - self._waited_at(begin)

    def _waited_at(self, moment: float) -> float:
        times, waited = self._times, self._waited
        after = bisect_left(times, moment)
        if after in {0, len(times)}:
            return waited[0 if after == 0 else -1]
        share = (moment - times[after - 1]) / (times[after] - times[after - 1])
        return waited[after - 1] + share * (waited[after] - waited[after - 1])
