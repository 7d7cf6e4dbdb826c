"""Helpers for tasks: start one in a task group or again, measure its time in the event loop, and log its exceptions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

import structlog
from structlog.contextvars import bind_contextvars

T = TypeVar("T")

RESTART_S = 1.0
"""The pause before a background task that has failed starts again."""

log = structlog.stdlib.get_logger("turnwire.turn")


def spawn(tasks: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
    """Start `work` in `tasks`. Drop it if the group is ending, because it is no longer needed then."""
    try:
        tasks.create_task(work)
    except RuntimeError:
        work.close()


async def keep_running(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `work` until it returns or is cancelled. If it raises an exception, log that, and start it again after a pause.

    So damaged data of one user can't end a task that other users need.
    """
    while True:
        try:
            await work()
            return
        except Exception:
            named = work.func if isinstance(work, partial) else work
            log.exception("a background task failed and starts again", task=named.__qualname__)
        await asyncio.sleep(RESTART_S)


class MeteredCoroutine(Coroutine[Any, Any, T]):
    """A coroutine that runs `work` and calls `on_step` with the seconds that each step held the loop.

    A task can run it, or another coroutine can await it.
    """

    def __init__(self, work: Coroutine[Any, Any, T], on_step: Callable[[float], None]) -> None:
        self._work = work
        self._on_step = on_step

    def send(self, value: Any) -> Any:
        """Run one step."""
        began = perf_counter()
        try:
            return self._work.send(value)
        finally:
            self._on_step(perf_counter() - began)

    def throw(self, *error: Any) -> Any:
        """Run one step that begins with an exception."""
        began = perf_counter()
        try:
            return self._work.throw(*error)
        finally:
            del error  # its traceback may refer to this frame, which would be a reference cycle
            self._on_step(perf_counter() - began)

    def close(self) -> None:
        """Close the work."""
        self._work.close()

    def __next__(self) -> Any:
        return self.send(None)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __await__(self) -> Generator[Any, Any, T]:
        return self  # type: ignore[return-value]


async def run_logged(work: Coroutine[Any, Any, None], user: str, turn: str) -> None:
    """Run the work of a turn. Log an exception from it and don't let it propagate."""
    bind_contextvars(user=user, turn=turn)
    try:
        await work
    except Exception:
        log.exception("task of a turn failed")
