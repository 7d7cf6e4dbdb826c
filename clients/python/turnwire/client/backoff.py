"""The wait before a reconnect: what the gateway asks for, else exponential backoff with full jitter."""

from __future__ import annotations

import random

BASE_S = 0.5
CAP_S = 20.0
STABLE_AFTER_S = 5.0
LIFETIME_REACHED = 4502


class Backoff:
    """Times are in seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._failures = 0
        self._ready_at: float | None = None
        self._requested_s: float | None = None

    def on_connecting(self) -> None:
        """An attempt begins. A requested wait is over."""
        self._requested_s = None

    def on_ready(self, now: float) -> None:
        """A socket is ready."""
        self._ready_at = now

    def request(self, seconds: float | None) -> None:
        """The gateway asks to wait this long before the next attempt."""
        self._requested_s = seconds

    def on_lost(self, now: float) -> None:
        """A socket is lost, or an attempt has failed. A socket that was ready for over 5 s ends the backoff."""
        stable = self._ready_at is not None and now - self._ready_at > STABLE_AFTER_S
        self._failures = 0 if stable else self._failures + 1
        self._ready_at = None

    def delay_s(self, code: int | None) -> float:
        """Return the wait after a loss with this close code."""
        if self._requested_s is not None:
            return self._requested_s
        if code == LIFETIME_REACHED:
            return 0.0
        cap_s: float = min(CAP_S, BASE_S * 2 ** min(self._failures, 10))
        return random.random() * cap_s
