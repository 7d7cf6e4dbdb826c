"""`GET /metrics`. `TURNWIRE_METRICS` says which callers may read it; the default is callers with the scope `admin`."""

from __future__ import annotations

from starlette.responses import Response

from gateway.http.operation import RequestContext
from gateway.http.responses import NO_STORE
from gateway.protocol.errors import ApiError


async def metrics(context: RequestContext) -> Response:
    """Return every metric of this process.

    Raise `ApiError` if metrics are off, or if the caller needs the scope `admin` and doesn't have it.
    """
    services = context.services
    if services.settings.metrics == "off":
        raise ApiError("not_found", "Metrics are off. The operator can turn them on with TURNWIRE_METRICS.")
    if services.settings.metrics == "admin":
        principal = await services.authenticator.authenticate(context.scope["headers"], context.scope["query_string"])
        principal.require("admin")
    body, media_type = services.telemetry.render(context.headers.get("accept", ""))
    return Response(body, 200, {**NO_STORE, "content-type": media_type})
