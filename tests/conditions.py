"""What tests wait for."""

from __future__ import annotations

from collections.abc import Callable


def holds(condition: Callable[[], object]) -> bool:
    """Whether it holds now; not yet, where it looks at something that isn't here yet: the last of no frames."""
    try:
        return bool(condition())
    except LookupError:
        return False
