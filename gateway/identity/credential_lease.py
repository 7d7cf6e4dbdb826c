"""One client's right to be here, for as long as it lasts: it is renewed, runs out, or is revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType

from gateway.identity.principal import NEEDED, Principal, Scope
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import now_ms
from gateway.protocol.requests import Request, TurnStart

FAR_S = 10 * 365 * 86_400.0

EXPIRED = "Your credential has expired. Send auth with a new one."
REVOKED = "Your credential has been revoked. Sign in again."
NARROWED = "Your credential allows less than before. Sign in again."

LASTING: frozenset[Scope] = frozenset({"read", "as"})
"""The scopes that what a client follows rests on: with them it has to end. The others are asked for with each request."""


class CredentialLease:
    """What a connection, or one HTTP request, may do now. Leave it when the client is gone.

    `on_expiring` is told when the credential ends soon, and when that is (ms since 1970); `on_ended` why it has ended.
    """

    def __init__(
        self,
        principal: Principal,
        renew: Callable[[Principal, str], Awaitable[Principal]],
        *,
        warning_s: float,
        grace_s: float,
        on_expiring: Callable[[int], None],
        on_ended: Callable[[str], None],
        on_left: Callable[[CredentialLease], None],
    ) -> None:
        self.principal = principal
        self.swept: Principal | None = None
        """What it was when its credentials were last looked at; who has just come in, or has renewed, is looked at next."""
        self.revoked = False
        self._renew = renew
        self._warning_s = warning_s
        self._grace_s = grace_s
        self._on_expiring = on_expiring
        self._on_ended = on_ended
        self._on_left = on_left
        self._warned_of: int | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._plan()

    def __enter__(self) -> CredentialLease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def check(self, request: Request) -> None:
        """Whether the credential allows this request now. Raises `ApiError` "forbidden" or "unauthenticated".

        Nothing new is started once it has expired; the rest is served during the grace.
        """
        principal = self.principal
        self.check_held()
        principal.require(NEEDED[type(request)])
        expires_ms = principal.expires_ms
        if expires_ms is not None and isinstance(request, TurnStart) and now_ms() >= expires_ms:
            raise ApiError("unauthenticated", EXPIRED)

    def check_held(self, scopes: frozenset[Scope] = frozenset()) -> None:
        """Raises `ApiError` "unauthenticated" where the credential counts no longer, or has lost one of the scopes."""
        if self.revoked:
            raise ApiError("unauthenticated", REVOKED)
        if not scopes <= self.principal.scopes:
            raise ApiError("unauthenticated", NARROWED)

    async def renew(self, token: str) -> Principal:
        """Go on with a new credential of the same user. Raises `ApiError`."""
        renewed = await self._renew(self.principal, token)
        self.check_held()
        self.principal = renewed
        self._plan()
        return renewed

    def change(self, principal: Principal) -> None:
        """The credential is the same, and what it allows, or its end, is another."""
        narrowed = self.principal.scopes - principal.scopes
        self.principal = principal
        if narrowed & LASTING:
            self.revoke(NARROWED)
        else:
            self._plan()

    def revoke(self, reason: str = REVOKED) -> None:
        """The credential counts no longer, for that reason."""
        if not self.revoked:
            self.revoked = True
            self._on_ended(reason)

    def leave(self) -> None:
        """The client is gone."""
        self._stop()
        self._on_left(self)

    def _stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _warn(self, expires_ms: int) -> None:
        """Once for each end: a client that renews with what ends no later has been told already."""
        if self._warned_of != expires_ms:
            self._warned_of = expires_ms
            self._on_expiring(expires_ms)

    def _plan(self) -> None:
        self._stop()
        expires_ms = self.principal.expires_ms
        if expires_ms is None:
            return
        left_s = (expires_ms - now_ms()) / 1000
        if left_s < FAR_S:
            loop = asyncio.get_running_loop()
            self._timers = [
                loop.call_later(max(left_s - self._warning_s, 0), self._warn, expires_ms),
                loop.call_later(max(left_s + self._grace_s, 0), self._on_ended, EXPIRED),
            ]
