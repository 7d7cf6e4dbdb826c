"""What each user and each address may have: requests, connections and turns at once, and budgets.

Requests and connections are counted in this process, turns and budgets in the store's step that accepts a turn, for
all instances. With auth off everyone is one user: nothing is counted by user or address then, but budgets hold.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from math import ceil
from types import TracebackType

from gateway import protocol as p
from gateway.errors import ApiError, ErrorCode
from gateway.principal import Principal
from gateway.settings import Settings
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


class Places:
    """At most `places` at once for each key; 0: as many as there are."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._taken: Counter[str] = Counter()

    def take(self, key: str) -> bool:
        """Take a place, if one is free."""
        if self.places and self._taken[key] >= self.places:
            return False
        self._taken[key] += 1
        return True

    def leave(self, key: str) -> None:
        """Give one back."""
        self._taken[key] -= 1
        if not self._taken[key]:
            del self._taken[key]


class Limits:
    """The limits of this process. `turns`: what the store checks when it accepts a turn."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        counted = settings.auth != "none"
        per_s = settings.user_requests_per_s
        self._requests = Pace(per_s, settings.user_requests_burst, clock) if counted and per_s else None
        self.of_users = Places(settings.user_connections if counted else 0)
        self.of_addresses = Places(settings.address_connections if counted else 0)
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
        return Stay(self)


class Stay:
    """The places that one client takes, until it leaves."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._taken: list[tuple[Places, str]] = []

    def __enter__(self) -> Stay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def enter(self, principal: Principal | None, host: str) -> None:
        """Take a place of the address, unless a service is there, and of the user, where one is named already.

        Raises `ApiError`, and then no place is taken.
        """
        try:
            if principal is None or not principal.by_service:
                self._take(self._limits.of_addresses, network_of(host), "this address")
            if principal is not None:
                self.of_user(principal)
        except ApiError:
            self.leave()
            raise

    def of_user(self, principal: Principal) -> None:
        """Take a place of the user; a service by itself needs none. Raises `ApiError`."""
        if not principal.is_service:
            self._take(self._limits.of_users, principal.user, "this user")

    def leave(self) -> None:
        """Give the places back."""
        while self._taken:
            places, key = self._taken.pop()
            places.leave(key)

    def _take(self, places: Places, key: str, whose: str) -> None:
        if not places.take(key):
            raise ApiError(
                "rate_limited", f"{places.places} connections of {whose} are open. Close one, then come back."
            )
        self._taken.append((places, key))


def network_of(host: str) -> str:
    """By what a client's address is counted: of IPv6 the /64, which is what one customer has."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else str(IPv6Address(int(address) >> 64 << 64))


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
