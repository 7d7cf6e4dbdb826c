"""What each user and each address may have: requests, connections and turns at once, and budgets.

Requests are counted in this process; for all instances, in the store, are connections (`places.py`), and turns and
budgets, in the step that accepts a turn. With auth off everyone is one user: nothing is counted by user or address
then, but budgets hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil

from gateway import protocol as p
from gateway.errors import ApiError, ErrorCode
from gateway.settings import Settings
from gateway.sockets.places import Places, Stay
from store.base import Limited, LimitName, TurnLimits

UNTHROTTLED: tuple[type[p.Request], ...] = (p.TurnCancel, p.TurnAttach, p.ConversationAttach)
"""Requests that are always taken: stopping, and finding one's turns again."""

PACES_SWEPT_AT = 1024

_BUDGET: ErrorCode = "budget_exceeded"
_REFUSALS: dict[LimitName, tuple[ErrorCode, str]] = {
    "starts": ("rate_limited", "Too many turns are started. Wait a moment."),
    "live": ("rate_limited", "Too many of your turns wait already. Wait for one to end, or stop one."),
    "tokens_per_day": (_BUDGET, "Your tokens of this day are used up. Go on tomorrow (UTC)."),
    "cost_per_day": (_BUDGET, "Your money of this day is used up. Go on tomorrow (UTC)."),
    "conversation_tokens": (_BUDGET, "This conversation has used its tokens. Begin another."),
}


class Pace:
    """An even pace for each key, with a burst: a bucket of `burst` tokens that gets `per_s` of them."""

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = 1 / per_s
        self._ahead_s = (burst - 1) * self._interval_s
        self._clock = clock
        self._due: dict[str, float] = {}
        self._sweep_at = PACES_SWEPT_AT

    def __len__(self) -> int:
        return len(self._due)

    def take(self, key: str) -> int:
        """Go on now, which is 0, or after so many ms."""
        now = self._clock()
        due = max(self._due.get(key, now), now)
        wait_s = due - now - self._ahead_s
        if wait_s > 0:
            return ceil(wait_s * 1000)
        self._due[key] = due + self._interval_s
        if len(self._due) >= self._sweep_at:
            self._due = {other: then for other, then in self._due.items() if then > now}
            self._sweep_at = max(PACES_SWEPT_AT, 2 * len(self._due))
        return 0


class Limits:
    """The limits of this process. `turns`: what the store checks when it accepts a turn."""

    def __init__(self, settings: Settings, places: Places, clock: Callable[[], float] = time.monotonic) -> None:
        counted = settings.auth != "none"
        per_s = settings.user_requests_per_s
        self._requests = Pace(per_s, settings.user_requests_burst, clock) if counted and per_s else None
        self.places = places
        self.turns = turn_limits(settings)

    def check_request(self, user: str, request: type[p.Request] | None) -> None:
        """Count a request. Raises `ApiError` "rate_limited"; nothing that is `UNTHROTTLED`."""
        if self._requests is None or (request is not None and issubclass(request, UNTHROTTLED)):
            return
        wait_ms = self._requests.take(user)
        if wait_ms:
            raise ApiError("rate_limited", "Too many requests. Wait a moment.", retry_after_ms=wait_ms)

    def stay(self) -> Stay:
        """For a client that comes in for longer than one answer."""
        return Stay(self.places)


def turn_limits(settings: Settings) -> TurnLimits:
    """What the store checks when it accepts a turn."""
    counted = settings.auth != "none"
    running = settings.user_running_turns if counted else 0
    per_s = settings.user_requests_per_s if counted else 0
    return TurnLimits(
        running=running,
        live=running + settings.user_queued_turns if running else 0,
        start_interval_us=ceil(1_000_000 / per_s) if per_s else 0,
        start_burst=settings.user_requests_burst,
        tokens_per_day=settings.user_tokens_per_day,
        cost_nano_per_day=int(settings.user_cost_per_day * 1_000_000_000),
        conversation_tokens=settings.conversation_tokens,
    )


def refused(limited: Limited) -> ApiError:
    """What a client is told of a turn that the store didn't accept."""
    code, message = _REFUSALS[limited.limit]
    return ApiError(code, message, retry_after_ms=limited.retry_after_ms)
