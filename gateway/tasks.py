"""Helpers for tasks: start one in a task group, measure its time in the event loop, and log its exceptions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator
from time import perf_counter
from typing import Any, TypeVar

import structlog
from structlog.contextvars import bind_contextvars

T = TypeVar("T")

log = structlog.stdlib.get_logger("turnwire.turn")


def spawn(tasks: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
    """Start `work` in `tasks`. Drop it if the group is ending, because it is no longer needed then."""
    try:
        tasks.create_task(work)
    except RuntimeError:
        work.close()


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
