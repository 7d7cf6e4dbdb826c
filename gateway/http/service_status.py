"""Operations that describe the service: health, readiness and metrics."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gateway.http.operation import RequestContext
from gateway.http.responses import NO_STORE, JsonResponse, error_response
from gateway.protocol.errors import ApiError
from gateway.protocol.results import Readiness, Status
from gateway.requests.services import Services
from store.archive.state import archive_state
from store.errors import PartFailed, StoreError

READY_PROBE_TTL_MS = 1000


async def health(context: RequestContext) -> Response:
    """Answer that the process is alive."""
    return JsonResponse(Status("ok"))


async def ready(context: RequestContext) -> Response:
    """Answer whether this instance can serve clients. Raise `ApiError` if its memory is used up.

    If the store can be read but not written (a full Redis, for example), or if a part of it fails, the answer is "ready"
    with the store "degraded", and all or some new turns are refused. All instances share that store: if none were
    ready, clients would lose access to running turns.
    """
    services = context.services
    if services.runner.is_draining:
        return error_response(ApiError("shutting_down"))
    services.memory.check()
    try:
        await services.store.ping()
    except PartFailed:
        return _readiness(services, "degraded")
    except StoreError:
        return error_response(ApiError("store_unavailable"))
    try:
        await services.store.put_ephemeral(f"ready:{services.instance}", b"", READY_PROBE_TTL_MS)
    except StoreError:
        return _readiness(services, "degraded")
    return _readiness(services, "ok")


def _readiness(services: Services, store: Literal["ok", "degraded"]) -> Response:
    """Return the answer of an instance that is ready, with the state of the archive now."""
    state = archive_state(services.store)
    archive: Literal["ok", "degraded"] | UnsetType = UNSET
    if state is not None:
        archive = "degraded" if state.is_degraded else "ok"
    return JsonResponse(Readiness("ready", store, archive))


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
