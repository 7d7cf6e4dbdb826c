"""Work that nobody waits for, in a task group that owns it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


def spawn(tasks: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
    """Begin `work` in `tasks`; drop it if the group is ending, for then nobody needs it any more."""
    try:
        tasks.create_task(work)
    except RuntimeError:
        work.close()
