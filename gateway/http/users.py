"""Operations on all data of one user: export it, and erase it."""

from __future__ import annotations

import structlog
from starlette.responses import Response

from gateway.http.export_response import ExportResponse
from gateway.http.operation import Identifier, RequestContext
from gateway.http.responses import NO_STORE, JsonResponse
from gateway.identity import origin
from gateway.identity.principal import SERVICE_PREFIX
from gateway.identity.principal import Scope as RequiredScope
from gateway.protocol import requests as p
from gateway.protocol.results import Nothing
from gateway.requests.export import export_user
from store.api import user_hash

log = structlog.stdlib.get_logger("turnwire.audit")

ME = "me"
"""The word that stands for the user of the credential, in place of a name."""


class UserErase(p.Request, frozen=True, tag="user.erase"):
    """Delete everything of a user, and close the user's connections. `user` is a name or, unless `exact`, `me`."""

    user: Identifier
    exact: bool = False


class UserExport(p.Request, frozen=True, tag="user.export"):
    """Export all data of a user as JSONL.

    The path has the user's name, or `me` for the caller. With `exact`, `me` is a name like any other.
    """

    user: Identifier
    exact: bool = False


async def erase_user(context: RequestContext) -> Response:
    """Erase the user that the path names. Raises `ApiError` and `StoreError`."""
    request = await context.parse(UserErase)
    user = _named_user(context, request, "chat")
    caller = context.principal
    await context.services.erasure.erase(user, caller.user, is_admin="admin" in caller.scopes)
    return JsonResponse(Nothing(), 200, NO_STORE)


async def export(context: RequestContext) -> Response:
    """Stream everything of the user that the path names. Raises `ApiError` and `StoreError`."""
    request = await context.parse(UserExport)
    user = _named_user(context, request, "read")
    context.services.memory.check()
    context.services.limits.large_answers.check(context.principal.user)
    log.info("export of a user begins", user_hash=user_hash(user), caller_hash=user_hash(context.principal.user))
    permit = context.services.limits.connection_permit()
    await permit.acquire(context.principal, origin.client_host(context.scope))
    try:
        lines = export_user(context.services.store, user)
        first = await anext(lines)  # if the store fails now, the answer is an error
    except BaseException:
        permit.release()
        raise
    return ExportResponse(context, first, lines, permit)


def _named_user(context: RequestContext, request: UserErase | UserExport, own_scope: RequiredScope) -> str:
    """Return the user that the path names. Raise `ApiError` if the caller lacks the scope for that user.

    That is `own_scope` for the caller itself and for a service that may act for any user (`as`), else `admin`.
    """
    principal, name = context.principal, request.user
    if name == principal.user or (name == ME and not request.exact):
        principal.require(own_scope)
        return principal.user
    if "admin" not in principal.scopes and "as" in principal.scopes and not name.startswith(SERVICE_PREFIX):
        principal.require(own_scope)
        return name
    principal.require("admin")
    return name
