"""Conditions that tests wait for."""

from __future__ import annotations

from collections.abc import Callable


def holds(condition: Callable[[], object]) -> bool:
    """Return whether the condition is true; a `LookupError`, such as for the last of no frames, is not yet true."""
    try:
        return bool(condition())
    except LookupError:
        return False
