"""Work that nobody waits for, in a task group that owns it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars

log = structlog.stdlib.get_logger("turnwire.turn")


def spawn(tasks: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
    """Begin `work` in `tasks`; drop it if the group is ending, for then nobody needs it any more."""
    try:
        tasks.create_task(work)
    except RuntimeError:
        work.close()


async def contained(work: Coroutine[Any, Any, None], user: str, turn: str) -> None:
    """A turn's work; what fails in it is logged, and stays in it."""
    bind_contextvars(user=user, turn=turn)
    try:
        await work
    except Exception:
        log.exception("a turn's task failed")
