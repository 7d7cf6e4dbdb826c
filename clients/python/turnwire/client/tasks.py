"""The tasks of a connection. Each has an owner, and none is left when the connection is closed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine
from typing import Any

from turnwire.client.errors import WrongLoop, WrongProcess

log = logging.getLogger("turnwire.client")


class Tasks:
    """Tasks in one event loop of one process."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.process = os.getpid()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def reachable(self) -> bool:
        """Whether the loop can still run something in this process."""
        return os.getpid() == self.process and not self.loop.is_closed()

    def check(self) -> None:
        """Raise a `ConnectionClosed` unless this is called in the loop to which the connection belongs."""
        if os.getpid() != self.process:
            raise WrongProcess(
                f"This connection belongs to the process {self.process}, from which this one was forked. "
                "Connect again in this process."
            )
        if self.loop.is_closed():
            raise WrongLoop("The event loop of this connection is closed. Connect again in the loop that runs now.")
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not self.loop:
            raise WrongLoop(
                "This connection belongs to another event loop. Use it in the loop in which it was opened, or connect again."
            )

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Run `work`. Return None if the connection is being closed."""
        if self._closed:
            work.close()
            return None
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("A task of the connection has failed. This is a defect: report it.", exc_info=error)

    async def close(self) -> None:
        """Cancel the tasks, except the one that calls this, and wait for them."""
        self._closed = True
        others = self._tasks - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)

    def cancel(self) -> None:
        """Cancel the tasks without waiting. For a connection that nothing refers to any more."""
        self._closed = True
        for task in tuple(self._tasks):
            task.cancel()

    def abandon(self) -> None:
        """Give up tasks that will never run again, because the loop is closed or belongs to another process.

        Otherwise Python would warn about each of them.
        """
        self._closed = True
        tasks, self._tasks = tuple(self._tasks), set()
        for task in tasks:
            with contextlib.suppress(Exception):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                coroutine = task.get_coro()
                if coroutine is not None:
                    coroutine.close()
