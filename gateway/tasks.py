"""Work that nobody waits for, in a task group that owns it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from time import perf_counter
from typing import Any, TypeVar

import structlog
from structlog.contextvars import bind_contextvars

T = TypeVar("T")

log = structlog.stdlib.get_logger("turnwire.turn")


def spawn(tasks: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
    """Begin `work` in `tasks`; drop it if the group is ending, for then nobody needs it any more."""
    try:
        tasks.create_task(work)
    except RuntimeError:
        work.close()


class Metered(Coroutine[Any, Any, T]):
    """The same work, for a task; `spent` is told how long each of its steps held the loop, in s."""

    def __init__(self, work: Coroutine[Any, Any, T], spent: Callable[[float], None]) -> None:
        self._work = work
        self._spent = spent

    def send(self, value: Any) -> Any:
        """One step."""
        began = perf_counter()
        try:
            return self._work.send(value)
        finally:
            self._spent(perf_counter() - began)

    def throw(self, *error: Any) -> Any:
        """One step that begins with an error."""
        began = perf_counter()
        try:
            return self._work.throw(*error)
        finally:
            self._spent(perf_counter() - began)

    def close(self) -> None:
        """Give the work up."""
        self._work.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._work.__await__()


async def contained(work: Coroutine[Any, Any, None], user: str, turn: str) -> None:
    """A turn's work; what fails in it is logged, and stays in it."""
    bind_contextvars(user=user, turn=turn)
    try:
        await work
    except Exception:
        log.exception("a turn's task failed")
