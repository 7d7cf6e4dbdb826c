"""The limits on requests, connections, concurrent turns, budgets, large bodies and answers, and event loop time.

Requests (`rate_limiter.py`) and connections (`connections.py`) are counted in the store for all instances, and so are
turns and budgets, when a turn is accepted. Bodies, answers and loop time are counted in this process only. With
auth off, only the token and cost budgets and the memory for bodies are limited.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil

from gateway.limits.connections import ConnectionLimiter, ConnectionPermit
from gateway.limits.loop_time import LoopTime
from gateway.limits.rate_limiter import RateLimiter
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError, ErrorCode
from gateway.settings import Settings
from store.errors import Limited, LimitName
from store.records import PINNED_MAX, TurnLimits

UNTHROTTLED: tuple[type[p.Request], ...] = (p.TurnCancel, p.TurnAttach, p.ConversationAttach)
"""The requests that the rate limit doesn't apply to.

They stop turns, or attach to existing turns and conversations. Only unknown ids in them are rate limited: each is
counted as a request.
"""
UNTHROTTLED_IN_FLIGHT = 32
"""How many unthrottled requests may be in flight in addition to `requests_in_flight`."""

KIB = 1024
ANSWER_BURSTS = 2
"""The burst for answers, as a multiple of the burst for bodies.

A client that opens a conversation full of images gets all of them at once.
"""
RETRY_BODY_AFTER_MS = 1000

_BUDGET: ErrorCode = "budget_exceeded"
_LIMIT_ERRORS: dict[LimitName, tuple[ErrorCode, str]] = {
    "starts": ("rate_limited", "Too many turns started. Wait a moment, then try again."),
    "live": ("rate_limited", "Limit of waiting turns reached. Wait for one to end, or cancel one."),
    "live_bytes": (
        "rate_limited",
        "Size limit of running and waiting turns reached. Wait for one to end, or cancel one.",
    ),
    "conversations": (_BUDGET, "Conversation limit reached. Delete some conversations."),
    "stored_bytes": (_BUDGET, "Storage limit reached. Delete some conversations."),
    "tokens_per_day": (_BUDGET, "Daily token limit reached. It resets at 00:00 UTC."),
    "cost_per_day": (_BUDGET, "Daily spending limit reached. It resets at 00:00 UTC."),
    "pinned": ("too_large", f"{PINNED_MAX} conversations are pinned already. Unpin one, then try again."),
    "conversation_tokens": (_BUDGET, "Token limit of this conversation reached. Start a new conversation."),
}


class BodyMemory:
    """The memory for large bodies that are read at the same time.

    Of each body, only the bytes beyond `small_bytes`, the maximum size of a frame, are counted.
    """

    def __init__(self, bytes_max: int, small_bytes: int) -> None:
        self.free_bytes = bytes_max
        self._small_bytes = small_bytes

    def grow(self, before: int, after: int) -> None:
        """Count a body that grows from `before` to `after` bytes.

        Raise `ApiError` "rate_limited" if that would exceed the limit.
        """
        more = self._large(after) - self._large(before)
        if more > self.free_bytes:
            message = "Too many large bodies at once. Wait a moment, then try again."
            raise ApiError("rate_limited", message, retry_after_ms=RETRY_BODY_AFTER_MS)
        self.free_bytes -= more

    def release(self, size: int) -> None:
        """Release the memory of a body of `size` bytes."""
        self.free_bytes += self._large(size)

    def _large(self, size: int) -> int:
        return max(0, size - self._small_bytes)


class ByteRateLimiter:
    """The rate at which one user may send or receive data larger than a frame.

    There is no limit with auth off, or if `user_body_bytes_per_s` is 0. `noun` is the plural noun for the data in
    error messages.
    """

    def __init__(self, noun: str, settings: Settings, burst_bytes: int, clock: Callable[[], float]) -> None:
        self._noun = noun
        self._uncharged_bytes = settings.frame_bytes
        self.rate_limiter = None
        if settings.auth != "none" and settings.user_body_bytes_per_s:
            kib_per_s = settings.user_body_bytes_per_s / KIB
            self.rate_limiter = RateLimiter(kib_per_s, burst_bytes // KIB, clock, settled=False)

    def check(self, user: str) -> None:
        """Check that the user's earlier bytes are within the rate.

        Raise `ApiError` "rate_limited" if not.
        """
        wait_ms = _wait_ms(self.rate_limiter, user)
        if wait_ms:
            raise ApiError(
                "rate_limited", f"Too many large {self._noun}. Wait a moment, then try again.", retry_after_ms=wait_ms
            )

    def charge(self, user: str, size: int) -> None:
        """Count `size` bytes, unless they fit in a frame."""
        if self.rate_limiter is not None and size > self._uncharged_bytes:
            self.rate_limiter.charge(user, size // KIB)


class Limits:
    """The limits of this process.

    `turn_limits` holds the limits that the store checks when it accepts a turn.
    """

    def __init__(
        self, settings: Settings, connections: ConnectionLimiter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        is_enforced = settings.auth != "none"
        per_s = settings.user_requests_per_s
        self.rate_limiter = RateLimiter(per_s, settings.user_requests_burst, clock) if is_enforced and per_s else None
        self.loop_time = LoopTime(clock, is_enforced=is_enforced)
        # Bytes arrive unevenly, so one user's burst may be as large as the memory for the bodies of all users.
        burst_bytes = settings.bodies_bytes
        self.large_bodies = ByteRateLimiter("bodies", settings, burst_bytes, clock)
        self.large_answers = ByteRateLimiter("answers", settings, ANSWER_BURSTS * burst_bytes, clock)
        self.connections = connections
        self.bodies = BodyMemory(settings.bodies_bytes, settings.frame_bytes)
        self.turn_limits = turn_limits(settings)

    def forget(self, user: str) -> None:
        """Forget what was counted for an erased user."""
        for limiter in (self.rate_limiter, self.large_bodies.rate_limiter, self.large_answers.rate_limiter):
            if limiter is not None:
                limiter.forget(user)
        self.loop_time.forget(user)

    def check_request(self, user: str, request: type[p.Request] | None) -> None:
        """Count a request, unless its type is in `UNTHROTTLED`.

        Raise `ApiError` "rate_limited" if the user has sent too many.
        """
        if self.rate_limiter is None or (request is not None and issubclass(request, UNTHROTTLED)):
            return
        wait_ms = self.rate_limiter.try_acquire(user)
        if wait_ms:
            raise ApiError("rate_limited", retry_after_ms=wait_ms)

    def is_over_rate(self, user: str) -> bool:
        """Return whether the rate limit would refuse the user's next request now."""
        return _wait_ms(self.rate_limiter, user) > 0

    def charge_unknown_ids(self, user: str, count: int) -> None:
        """Count each of `count` unknown ids in an unthrottled request as a request."""
        if self.rate_limiter is not None and count:
            self.rate_limiter.charge(user, count)

    def check_unknown_ids(self, user: str) -> None:
        """Check that the user may look up ids that might not exist.

        Raise `ApiError` "rate_limited" if not.
        """
        wait_ms = _wait_ms(self.rate_limiter, user)
        if wait_ms:
            raise ApiError(
                "rate_limited",
                "Too many unknown ids. Running turns were still found. Wait a moment, then try the other ids again.",
                retry_after_ms=wait_ms,
            )

    def connection_permit(self) -> ConnectionPermit:
        """Return a permit, not yet acquired, for a socket or for an HTTP request that stays open for a turn."""
        return ConnectionPermit(self.connections)


def _wait_ms(limiter: RateLimiter | None, user: str) -> int:
    return 0 if limiter is None else limiter.wait_ms(user)


def turn_limits(settings: Settings) -> TurnLimits:
    """Return the limits that the store checks when it accepts a turn."""
    is_enforced = settings.auth != "none"
    running = settings.user_running_turns if is_enforced else 0
    per_s = settings.user_requests_per_s if is_enforced else 0
    return TurnLimits(
        running=running,
        live=running + settings.user_queued_turns if running else 0,
        live_bytes=settings.user_live_bytes if is_enforced else 0,
        conversations=settings.user_conversations if is_enforced else 0,
        stored_bytes=settings.user_stored_bytes if is_enforced else 0,
        start_interval_us=ceil(1_000_000 / per_s) if per_s else 0,
        # Every start has already passed the request rate limit. Allow one more here, because the delay between that
        # check and the store varies.
        start_burst=settings.user_requests_burst + 1,
        tokens_per_day=settings.user_tokens_per_day,
        cost_nano_per_day=int(settings.user_cost_per_day * 1_000_000_000),
        conversation_tokens=settings.conversation_tokens,
    )


def limit_error(limited: Limited) -> ApiError:
    """Return the error for a turn that the store didn't accept."""
    code, message = _LIMIT_ERRORS[limited.limit]
    return ApiError(code, message, retry_after_ms=limited.retry_after_ms)
