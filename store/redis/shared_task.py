"""A task that several callers wait for, such as the search for the present masters."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from store.redis.routes import TOPOLOGY_TIMEOUT_S


class SharedTask:
    """A task that several callers may wait for, and that goes on if one of them is cancelled."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self, make: Any) -> asyncio.Task[None]:
        """Return the running task. If there is none, start one with the coroutine that `make` returns."""
        if self._task is None or self._task.done():
            made: Coroutine[Any, Any, None] = make()
            self._task = asyncio.get_running_loop().create_task(made)
            self._task.add_done_callback(_retrieve)
        return self._task

    async def run(self, make: Any) -> None:
        """Wait for the task. Raises its error."""
        await asyncio.shield(self.start(make))

    async def run_briefly(self, make: Any) -> None:
        """Wait for the task, but only for a moment. Raises nothing."""
        await asyncio.wait({self.start(make)}, timeout=TOPOLOGY_TIMEOUT_S)

    async def close(self) -> None:
        """Cancel the task."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieve the error of a task, so that asyncio doesn't log it if no caller waits for the task."""
    if not task.cancelled():
        task.exception()
