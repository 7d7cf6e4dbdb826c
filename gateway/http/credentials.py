"""Operations on credentials: exchange one for a ticket, and revoke others."""

from __future__ import annotations

from starlette.responses import Response

from gateway.http.operation import Identifier, RequestContext
from gateway.http.responses import NO_STORE, JsonResponse
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import now_ms, rfc3339, time_of


class Revocation(p.Request, frozen=True, tag="revocation"):
    """Revoke a token by its `jti`, an API key by its id, or a user's credentials by `user`.

    With `user`, the credentials that were issued before the time `before` are revoked. `before` is an RFC 3339 time, by
    default now.
    """

    jti: Identifier | None = None
    key: Identifier | None = None
    user: Identifier | None = None
    before: str | None = None


async def issue_ticket(context: RequestContext) -> Response:
    """Issue a ticket to the caller. Raises `ApiError` and `StoreError`."""
    context.query()
    ticket, expires_ms = await context.services.authenticator.tickets.issue(context.principal)
    return JsonResponse({"ticket": ticket, "expires_at": rfc3339(expires_ms)}, 200, NO_STORE)


async def revoke(context: RequestContext) -> Response:
    """Revoke a token, an API key, or the credentials of a user; every instance refuses them within seconds.

    Raises `ApiError` and `StoreError`.
    """
    request = await context.parse(Revocation)
    if [request.jti, request.key, request.user].count(None) != 2 or (
        request.before is not None and request.user is None
    ):
        raise ApiError(
            "invalid_request",
            "A revocation has one target. Send one of `jti`, `key` and `user`, and `before` only with `user`.",
        )
    revocations = context.services.authenticator.revocations
    if request.user is not None:
        before_ms = now_ms() if request.before is None else time_of("before", request.before)
        await revocations.revoke_user(request.user, before_ms)
    elif request.jti is not None:
        await revocations.revoke(f"jti:{request.jti}")
    else:
        await revocations.revoke(f"key:{request.key}")
    return JsonResponse({}, 200, NO_STORE)
