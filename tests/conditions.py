"""Conditions that tests wait for."""

from __future__ import annotations

from collections.abc import Callable


def holds(condition: Callable[[], object]) -> bool:
    """Return whether the condition is true. A `LookupError`, as for a frame that hasn't arrived, means that it isn't."""
    try:
        return bool(condition())
    except LookupError:
        return False
