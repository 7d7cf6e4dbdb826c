"""Bounds of time, in seconds.

A machine that stands still for a moment misses one by luck, a defect misses it every time: a test that says that it
`bounds_a_time` is run again where it was `TooLate`, twice at most and in sight. Whatever else fails fails at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

bounds_a_time = pytest.mark.flaky(reruns=2, only_rerun=["TooLate"])
"""A mark of the tests that wait for a clock, and of no others."""


class TooLate(AssertionError):
    """What had to be done in time was done, but later."""


def check_in_time(took_s: float, bound_s: float) -> None:
    """Raises `TooLate`."""
    if took_s >= bound_s:
        raise TooLate(f"It took {took_s:.3f} s, and may take {bound_s:g} s.")


@contextmanager
def within(bound_s: float) -> Iterator[None]:
    """The block is to be through before that. Raises `TooLate`."""
    began = time.monotonic()
    yield
    check_in_time(time.monotonic() - began, bound_s)
