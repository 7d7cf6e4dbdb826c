"""What a shared machine adds to a delay: how long processes were ready to run while it ran others (Linux)."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from contextlib import suppress


class RunQueue:
    """The waiting of all threads of these processes, noted now and then. Where the kernel doesn't tell, it is none.

    All threads, since the one that holds the interpreter's lock keeps the others waiting while it waits for a core.
    """

    def __init__(self, *pids: int) -> None:
        self._folders = [folder for pid in pids if os.path.exists(f"{(folder := f'/proc/{pid}/task')}/{pid}/schedstat")]
        self._files: dict[str, int] = {}
        self._waits: dict[str, int] = {}
        self._times: list[float] = []
        self._waited: list[float] = []

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def sample(self) -> float:
        """Note what was waited until now, which is returned (monotonic, in seconds)."""
        now = time.monotonic()
        for folder in self._folders:
            for thread in os.listdir(folder):
                with suppress(OSError):  # it ended
                    self._read(f"{folder}/{thread}/schedstat")
        self._times.append(now)
        self._waited.append(sum(self._waits.values()) / 1e9)
        return now

    def _read(self, path: str) -> None:
        if path not in self._files:
            self._files[path] = os.open(path, os.O_RDONLY)
        self._waits[path] = int(os.pread(self._files[path], 64, 0).split()[1])

    def waited_s(self, begin: float, end: float) -> float:
        """How long they waited between the two moments; between two notes evenly."""
        return self._waited_at(end) - self._waited_at(begin)

    def _waited_at(self, moment: float) -> float:
        times, waited = self._times, self._waited
        after = bisect_left(times, moment)
        if after in {0, len(times)}:
            return waited[0 if after == 0 else -1]
        share = (moment - times[after - 1]) / (times[after] - times[after - 1])
        return waited[after - 1] + share * (waited[after] - waited[after - 1])
