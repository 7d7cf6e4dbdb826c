"""What a shared machine adds to a delay: how long processes were ready to run while it ran others (Linux)."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from pathlib import Path


class RunQueue:
    """The waiting of these processes' main threads, noted now and then. Where the kernel doesn't tell, it is none."""

    def __init__(self, *pids: int) -> None:
        paths = [Path(f"/proc/{pid}/task/{pid}/schedstat") for pid in pids]
        self._files = [path.open("rb", buffering=0) for path in paths if path.exists()]
        self._times: list[float] = []
        self._waited: list[float] = []

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files:
            file.close()

    def note(self) -> float:
        """Note what was waited until now, which is returned (monotonic, in seconds)."""
        now = time.monotonic()
        self._times.append(now)
        self._waited.append(sum(int(os.pread(file.fileno(), 64, 0).split()[1]) for file in self._files) / 1e9)
        return now

    def waited_s(self, begin: float, end: float) -> float:
        """How long they waited between the two moments; between two notes evenly."""
        return self._at(end) - self._at(begin)

    def _at(self, moment: float) -> float:
        times, waited = self._times, self._waited
        after = bisect_left(times, moment)
        if after in {0, len(times)}:
            return waited[0 if after == 0 else -1]
        share = (moment - times[after - 1]) / (times[after] - times[after - 1])
        return waited[after - 1] + share * (waited[after] - waited[after - 1])
