"""The error responses for an unknown path and for a method that a path doesn't have, in the shape of the dialect there."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from gateway.dialects.anthropic_messages import MESSAGES
from gateway.dialects.base import Dialect
from gateway.http.dialects.addresses import dialect_at
from gateway.http.dialects.anthropic_messages import VERSION_HEADER
from gateway.http.responses import HttpError, error_response
from gateway.protocol.errors import ApiError

WRONG_METHOD = HttpError(405, "This path doesn't support the method. Use one of the methods in the Allow header.")


async def handle_not_found(request: Request, error: Exception) -> Response:
    """Return the error response for an unknown path (404) or a wrong method (405)."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    dialect = dialect_of(path, request.scope)
    if isinstance(error, HTTPException) and error.status_code == 405:
        return error_response(WRONG_METHOD, error.headers, dialect)
    return error_response(ApiError("not_found", "Path not found. GET /v1 lists the addresses."), dialect=dialect)


def dialect_of(path: str, scope: Scope) -> Dialect | None:
    """Return the dialect of an error: that of the address, or Anthropic's, whose clients send a header of their own."""
    found = dialect_at(path)
    is_own = path.startswith("/v1/messages/")  # the messages of our own API
    return MESSAGES if found is None and not is_own and VERSION_HEADER in Headers(scope=scope) else found
