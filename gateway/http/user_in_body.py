"""The user that a body or a query names in `user_id`: a caller that may act for others acts for that user."""

from __future__ import annotations

import hashlib
from typing import Final

import structlog

from gateway.http.operation import RequestContext
from gateway.identity.principal import Principal, check_user, principal_for
from gateway.protocol.errors import ApiError
from gateway.requests.services import Services
from store.errors import StoreError

log = structlog.stdlib.get_logger("turnwire.http")

DAY_MS: Final = 24 * 3600 * 1000
KEPT_MS_MAX: Final = 400 * DAY_MS
"""The longest time for which the user of a session is remembered, counted from the session's last message."""


async def act_for_user_in_body(context: RequestContext, user: str | None, session: str | None = None) -> None:
    """Let the request act for the user that it names in `user_id`. Raises `ApiError` and `StoreError`.

    Where auth is off or the credential has the scope `as`, any user may be named; if none is, it is the user that the
    caller has named last for this session. Otherwise only the caller itself may be named.
    """
    caller = context.principal
    may_name = context.services.authenticator.is_open or "as" in caller.scopes
    if user is None and may_name and session is not None:
        (stored,) = await context.services.store.get_ephemeral([_key(caller.user, session)])
        user = None if stored is None else stored.decode()
    if user is None or user == caller.user:
        return
    if not may_name:
        raise ApiError(
            "forbidden",
            "`user_id` is another user. Leave it out, or use a credential with the scope `as`.",
            path="user_id",
        )
    try:
        check_user(user)
    except ValueError as error:
        raise ApiError("invalid_request", f"Invalid user name: {error}. Correct `user_id`.", path="user_id") from None
    context.services.limits.check_request(user, context.operation.request)
    context.principal = principal_for(caller, user)


async def remember_user(context: RequestContext, caller: str, session: str | None) -> None:
    """Remember the user of a session that the caller has begun, so that later requests needn't name the user."""
    user = context.principal.user
    if session is None or user == caller:
        return
    services = context.services
    try:
        await services.store.put_ephemeral(
            _key(caller, session), user.encode(), kept_ms(services, context.principal), user
        )
    except StoreError as error:
        log.warning("user of a session can't be kept", error=str(error))


def kept_ms(services: Services, principal: Principal) -> int:
    """Return for how many ms the user of a session is remembered: no longer than the session is kept."""
    settings, days = services.settings, principal.retention_days
    days = settings.retention_days if days is None else days
    limits_ms: list[int] = [KEPT_MS_MAX, *([days * DAY_MS] if days else ())]
    if services.store.shared and not settings.archive and settings.history_ttl_s:
        limits_ms.append(int(settings.history_ttl_s * 1000))
    return min(limits_ms)


def _key(caller: str, session: str) -> str:
    return "session:" + hashlib.sha256(f"{caller}\0{session}".encode()).hexdigest()
