"""Notices that nothing arrives on a socket any more, and that this machine was asleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from turnwire.client.tasks import Tasks

TICK_S = 1.0
HEARTBEATS_MAX = 2.5
"""The longest silence, in heartbeats. TCP alone may need many minutes to notice that the other side is gone."""
ANSWER_S = 3.0
"""How soon a gateway has to answer after this machine was asleep."""
ASLEEP_S = 5.0
"""A timer that fires so much too late means that this machine was asleep."""


class Watchdog:
    """Watches one socket at a time.

    `on_silent` is called if nothing arrives for too long. `on_wake` is called after a sleep; it has to send a request, so
    that an answer is due.
    """

    def __init__(self, tasks: Tasks, on_silent: Callable[[], None], on_wake: Callable[[], None]) -> None:
        self._tasks = tasks
        self._on_silent = on_silent
        self._on_wake = on_wake
        self._silence_s = 0.0
        self._due = 0.0
        self._ticked = (0.0, 0.0)
        self._timer: asyncio.TimerHandle | None = None

    def start(self, heartbeat_s: float) -> None:
        """Watch a socket that is open now. `heartbeat_s`: how often the gateway sends something."""
        self._silence_s = heartbeat_s * HEARTBEATS_MAX
        self._ticked = (self._tasks.loop.time(), time.time())
        self.on_received()
        self._tick_later()

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None and self._tasks.reachable:
            self._timer.cancel()
        self._timer = None

    def on_received(self) -> None:
        """Something has arrived."""
        self._due = self._tasks.loop.time() + self._silence_s

    def _tick_later(self) -> None:
        self.stop()
        self._timer = self._tasks.loop.call_later(min(TICK_S, self._silence_s / 4), self._tick)

    def _tick(self) -> None:
        now, clock = self._tasks.loop.time(), time.time()
        slept_s = (clock - self._ticked[1]) - (now - self._ticked[0])
        late_s = now - self._ticked[0] - TICK_S
        self._ticked = (now, clock)
        if now > self._due and late_s < ASLEEP_S:
            self._on_silent()
        elif slept_s > ASLEEP_S or late_s > ASLEEP_S:
            self._due = now + ANSWER_S
            self._on_wake()
        self._tick_later()
