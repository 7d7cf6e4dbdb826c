"""Operations on credentials: exchange one for a ticket, and revoke others."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from starlette.responses import Response

from gateway.http.operation import RequestContext
from gateway.http.request_body import from_body
from gateway.http.responses import NO_STORE, Json
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import now_ms, rfc3339, time_of
from gateway.protocol.plain_text import PLAIN

Name = Annotated[str, Meta(min_length=1, max_length=1000, pattern=PLAIN)]


class Revocation(p.Request, frozen=True, tag="revocation"):
    """Revoke a token by its `jti`, an API key by its id, or the credentials that `user` was issued before `before`.

    `before` is an RFC 3339 time, by default now.
    """

    jti: Name | None = None
    key: Name | None = None
    user: Name | None = None
    before: str | None = None


async def issue(context: RequestContext) -> Response:
    """Issue a ticket to the caller. Raises `ApiError` and `StoreError`."""
    context.query()
    ticket, until_ms = await context.services.authenticator.tickets.issue(context.principal)
    return Json({"ticket": ticket, "expires_at": rfc3339(until_ms)}, 200, NO_STORE)


async def revoke(context: RequestContext) -> Response:
    """Revoke a token, an API key, or the credentials of a user; every instance obeys within seconds.

    Raises `ApiError` and `StoreError`.
    """
    context.principal.require("admin")
    body = await context.body(context.services.settings.frame_bytes)
    asked = from_body(Revocation, {}, body, context.operation.fields)
    if [asked.jti, asked.key, asked.user].count(None) != 2 or (asked.before is not None and asked.user is None):
        raise ApiError(
            "invalid_request",
            "A revocation has one target. Send one of `jti`, `key` and `user`, and `before` only with `user`.",
        )
    revocations = context.services.authenticator.revocations
    if asked.user is not None:
        await revocations.revoke_user(asked.user, _moment(asked.before))
    elif asked.jti is not None:
        await revocations.revoke(f"jti:{asked.jti}")
    else:
        await revocations.revoke(f"key:{asked.key}")
    return Json({}, 200, NO_STORE)


def _moment(before: str | None) -> int:
    if before is None:
        return now_ms()
    return time_of("before", before)
