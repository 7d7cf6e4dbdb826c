"""The end of a connection that the program has forgotten: it is closed when its running turns have ended."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

from turnwire.client.followed import FollowedTurns
from turnwire.client.tasks import Tasks


class IdleClose:
    """`abandon` gives the connection up if Python exits before the turns have ended."""

    def __init__(self, tasks: Tasks, turns: FollowedTurns, abandon: Callable[[], None]) -> None:
        self._tasks = tasks
        self._turns = turns
        self._abandon = abandon
        self._at_exit: weakref.finalize[..., Any] | None = None

    def begin(self) -> None:
        """Close the connection now, or when its running turns have ended. Call this in the connection's loop."""
        running = self._turns.running()
        if running:
            running[0]._on_end(self._look_again)
            if self._at_exit is None:
                self._at_exit = weakref.finalize(asyncio, self._abandon)
        else:
            self._tasks.cancel()
            self.on_closed()

    def on_closed(self) -> None:
        """The connection is closed, so nothing is left to do at exit."""
        if self._at_exit is not None:
            self._at_exit.detach()

    def _look_again(self) -> None:
        if self._tasks.reachable:
            self._tasks.loop.call_soon(self.begin)
