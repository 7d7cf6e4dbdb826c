"""Time limits, in seconds.

A test on a stalled machine may miss a time limit once, but a defect misses it every time. So a test marked
`checks_time_limit` is rerun at most twice if it raised `TooLate`, and the report shows the reruns. Any other failure is
final.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

checks_time_limit = pytest.mark.flaky(reruns=2, only_rerun=["TooLate"])
"""Marks a test that checks a time limit. Don't use it on other tests."""


class TooLate(AssertionError):
    """The operation succeeded, but took too long."""


def check_in_time(took_s: float, bound_s: float) -> None:
    """Raise `TooLate` if the time taken isn't below the bound."""
    if took_s >= bound_s:
        raise TooLate(f"It took {took_s:.3f} s, but must take less than {bound_s:g} s.")


@contextmanager
def within(bound_s: float) -> Iterator[None]:
    """Check that the block takes less than `bound_s`. Raises `TooLate`."""
    began = time.monotonic()
    yield
    check_in_time(time.monotonic() - began, bound_s)
