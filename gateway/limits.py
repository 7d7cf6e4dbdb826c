"""What each user and each address may have: requests, connections and turns at once, and budgets.

All of it is counted for all instances, by the store: requests (`pace.py`), connections (`places.py`), and turns and
budgets in the step that accepts a turn. With auth off everyone is one user: nothing is counted by user or address
then, but budgets hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil

from gateway import protocol as p
from gateway.errors import ApiError, ErrorCode
from gateway.pace import Pace
from gateway.settings import Settings
from gateway.sockets.places import Places, Stay
from store.base import Limited, LimitName, TurnLimits

UNTHROTTLED: tuple[type[p.Request], ...] = (p.TurnCancel, p.TurnAttach, p.ConversationAttach)
"""Requests that are always taken: stopping, and finding one's turns again."""

RETRY_BODY_AFTER_MS = 1000

_BUDGET: ErrorCode = "budget_exceeded"
_REFUSALS: dict[LimitName, tuple[ErrorCode, str]] = {
    "starts": ("rate_limited", "Too many turns are started. Wait a moment."),
    "live": ("rate_limited", "Too many of your turns wait already. Wait for one to end, or stop one."),
    "tokens_per_day": (_BUDGET, "Your tokens of this day are used up. Go on tomorrow (UTC)."),
    "cost_per_day": (_BUDGET, "Your money of this day is used up. Go on tomorrow (UTC)."),
    "conversation_tokens": (_BUDGET, "This conversation has used its tokens. Begin another."),
}


class BodyRoom:
    """The memory for large bodies that are read at the same time. What fits a frame, `small_bytes`, needs none."""

    def __init__(self, bytes_max: int, small_bytes: int) -> None:
        self.left = bytes_max
        self._small_bytes = small_bytes

    def grow(self, before: int, after: int) -> None:
        """A body of `before` bytes has `after` now. Raises `ApiError` where there is no room for that."""
        more = self._large(after) - self._large(before)
        if more > self.left:
            message = "Too many large bodies are sent at once. Try again in a moment."
            raise ApiError("rate_limited", message, retry_after_ms=RETRY_BODY_AFTER_MS)
        self.left -= more

    def leave(self, size: int) -> None:
        """A body of `size` bytes is needed no longer."""
        self.left += self._large(size)

    def _large(self, size: int) -> int:
        return max(0, size - self._small_bytes)


class Limits:
    """The limits of this process. `turns`: what the store checks when it accepts a turn."""

    def __init__(self, settings: Settings, places: Places, clock: Callable[[], float] = time.monotonic) -> None:
        counted = settings.auth != "none"
        per_s = settings.user_requests_per_s
        self.pace = Pace(per_s, settings.user_requests_burst, clock) if counted and per_s else None
        self.places = places
        self.bodies = BodyRoom(settings.bodies_bytes, settings.frame_bytes)
        self.turns = turn_limits(settings)

    def check_request(self, user: str, request: type[p.Request] | None) -> None:
        """Count a request. Raises `ApiError` "rate_limited"; nothing that is `UNTHROTTLED`."""
        if self.pace is None or (request is not None and issubclass(request, UNTHROTTLED)):
            return
        wait_ms = self.pace.take(user)
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
        # Every start has passed the pace of requests, and the way to the store takes it a while.
        start_burst=settings.user_requests_burst + 1,
        tokens_per_day=settings.user_tokens_per_day,
        cost_nano_per_day=int(settings.user_cost_per_day * 1_000_000_000),
        conversation_tokens=settings.conversation_tokens,
    )


def refused(limited: Limited) -> ApiError:
    """What a client is told of a turn that the store didn't accept."""
    code, message = _REFUSALS[limited.limit]
    return ApiError(code, message, retry_after_ms=limited.retry_after_ms)
