"""One client's access for as long as its credential is valid. The credential can be renewed, expire, or be revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType

from gateway.identity.principal import REQUIRED_SCOPES, Principal, Scope
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import now_ms
from gateway.protocol.requests import Request, TurnStart

TIMER_MAX_S = 10 * 365 * 86_400.0
"""A credential that is valid for longer than this has no timers."""

EXPIRED = "The credential has expired. Send a new one."
REVOKED = "The credential was revoked. Sign in again."
NARROWED = "The credential has lost a scope that this client needs. Sign in again."

ATTACHMENT_SCOPES: frozenset[Scope] = frozenset({"read", "as"})
"""The scopes that attachments and subscriptions depend on. If one is lost, the client's access ends.

The other scopes are checked with each request.
"""


class CredentialLease:
    """The access of a connection or of one HTTP request. Call `release` when the client is gone.

    `on_expiring` is called before the credential expires, with that time in ms since 1970. `on_ended` is called with
    the reason when access ends. `on_released` is called with the lease by `release`.
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
        on_released: Callable[[CredentialLease], None],
    ) -> None:
        self.principal = principal
        self.swept_principal: Principal | None = None
        """The principal that was last checked for revocation.

        It differs from `principal` after an admission, a renewal or an update; then the next sweep checks the lease.
        """
        self.revoked = False
        self._renew = renew
        self._warning_s = warning_s
        self._grace_s = grace_s
        self._on_expiring = on_expiring
        self._on_ended = on_ended
        self._on_released = on_released
        self._warned_expires_ms: int | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._schedule_timers()

    def __enter__(self) -> CredentialLease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def check(self, request: Request) -> None:
        """Check that the credential allows this request now.

        Raise `ApiError` "forbidden" or "unauthenticated" if not. After the credential has expired, no turn may be
        started; other requests are served during the grace period.
        """
        principal = self.principal
        self.check_active()
        principal.require(REQUIRED_SCOPES[type(request)])
        expires_ms = principal.expires_ms
        if expires_ms is not None and isinstance(request, TurnStart) and now_ms() >= expires_ms:
            raise ApiError("unauthenticated", EXPIRED)

    def check_active(self, scopes: frozenset[Scope] = frozenset()) -> None:
        """Check that the credential is not revoked and still has `scopes`.

        Raise `ApiError` "unauthenticated" if not.
        """
        if self.revoked:
            raise ApiError("unauthenticated", REVOKED)
        if not scopes <= self.principal.scopes:
            raise ApiError("unauthenticated", NARROWED)

    async def renew(self, token: str) -> Principal:
        """Replace the credential with another one of the same user. Raises `ApiError`."""
        renewed = await self._renew(self.principal, token)
        self.check_active()
        self.principal = renewed
        self._schedule_timers()
        return renewed

    def update(self, principal: Principal) -> None:
        """Apply changed scopes or a changed expiration time of the same credential.

        If it has lost a scope in `ATTACHMENT_SCOPES`, its access ends.
        """
        lost_scopes = self.principal.scopes - principal.scopes
        self.principal = principal
        if lost_scopes & ATTACHMENT_SCOPES:
            self.revoke(NARROWED)
        else:
            self._schedule_timers()

    def revoke(self, reason: str = REVOKED) -> None:
        """End the access, with `reason` for the client."""
        if not self.revoked:
            self.revoked = True
            self._on_ended(reason)

    def release(self) -> None:
        """Cancel the timers and report that the client is gone."""
        self._cancel_timers()
        self._on_released(self)

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _warn(self, expires_ms: int) -> None:
        """Report that the credential expires soon, once for each expiration time.

        A client that renewed with a credential that expires at the same time has been warned already.
        """
        if self._warned_expires_ms != expires_ms:
            self._warned_expires_ms = expires_ms
            self._on_expiring(expires_ms)

    def _schedule_timers(self) -> None:
        self._cancel_timers()
        expires_ms = self.principal.expires_ms
        if expires_ms is None:
            return
        remaining_s = (expires_ms - now_ms()) / 1000
        if remaining_s < TIMER_MAX_S:
            loop = asyncio.get_running_loop()
            self._timers = [
                loop.call_later(max(remaining_s - self._warning_s, 0), self._warn, expires_ms),
                loop.call_later(max(remaining_s + self._grace_s, 0), self._on_ended, EXPIRED),
            ]
