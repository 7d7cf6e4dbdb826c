"""Time limits, in seconds.

A stalled machine misses a time limit by chance, a defect misses it every time: a test marked `bounds_a_time` is rerun,
visibly and at most twice, if it raised `TooLate`. Every other failure is final.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

bounds_a_time = pytest.mark.flaky(reruns=2, only_rerun=["TooLate"])
"""The mark of tests that check a time limit, and of no others."""


class TooLate(AssertionError):
    """The operation succeeded, but took too long."""


def check_in_time(took_s: float, bound_s: float) -> None:
    """Raise `TooLate` if the time taken isn't below the bound."""
    if took_s >= bound_s:
        raise TooLate(f"It took {took_s:.3f} s, and may take {bound_s:g} s.")


@contextmanager
def within(bound_s: float) -> Iterator[None]:
    """Check that the block takes less than `bound_s`. Raises `TooLate`."""
    began = time.monotonic()
    yield
    check_in_time(time.monotonic() - began, bound_s)
