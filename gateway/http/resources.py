"""Operations with one request and one result, and the download of an image or a file.

Also the operations that describe the service: health, readiness, version and metrics.
"""

from __future__ import annotations

import binascii
import re
from typing import Literal
from urllib.parse import quote

from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gateway.http.operation import PartGet, RequestContext
from gateway.http.responses import NO_STORE, BytesResponse, JsonResponse, error_response
from gateway.offload import offload
from gateway.protocol.errors import ApiError, not_found
from gateway.protocol.results import Cancelled, Readiness, Status
from gateway.protocol.views import body_of
from gateway.requests.services import Services
from gateway.turns.answer_images import find_image
from providers.base import FilePart, ImagePart, Part
from store.archive.state import archive_state
from store.records import NotFound, PartFailed, StoreError

READY_PROBE_TTL_MS = 1000
SLICE_CHARS = 256 * 1024
"""How much base64 is decoded at once, a multiple of 4."""

_MEDIA_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}", re.ASCII)


async def handle_request(context: RequestContext) -> Response:
    """Return the result of the request as JSON. Raises `ApiError` and `ClientDisconnect`."""
    operation = context.operation
    assert operation.request is not None
    if operation.has_body:
        context.query()
    request = await context.parse(operation.request)
    async with context.session() as session:
        result = await session.handle(request)  # type: ignore[arg-type]
    answer = operation.responses[0]
    headers = dict(NO_STORE)
    if answer.status == 201:
        headers["location"] = context.external_path(f"{operation.path}/{quote(result.id)}")
    return JsonResponse(result, answer.status, headers)


async def cancel_turn(context: RequestContext) -> Response:
    """Serve `turn.cancel` of one turn. Raise `ApiError` "not_found" if there is no such turn."""
    answer = await handle_request(context)
    turn = context.path_params["turn"]
    if answer.body == JsonResponse(Cancelled({turn: "not_found"})).body:
        raise not_found("turn", turn)
    return answer


async def get_part(context: RequestContext) -> Response:
    """Return the data of one image or file of a message, decoded.

    Raise `NotFound` if the part doesn't exist, is neither an image nor a file, or has no data. Raises `ApiError` and
    `StoreError`.
    """
    request = await context.parse(PartGet)
    context.services.memory.check()
    context.services.limits.large_answers.check(context.principal.user)
    found = await _find_part(context, request)
    if not isinstance(found, ImagePart | FilePart) or found.data is None:
        raise NotFound("part")
    name = f"; filename*=UTF-8''{quote(found.name, safe='')}" if found.name else ""
    headers = {
        **NO_STORE,
        "content-disposition": f"attachment{name}",
        "content-security-policy": "default-src 'none'; sandbox",
        "x-content-type-options": "nosniff",
    }
    # The client that sent the part chose the media type. It may be invalid in a header.
    media_type = found.media_type if _MEDIA_TYPE.fullmatch(found.media_type) else "application/octet-stream"
    data = await offload(len(found.data), _decode, found.data)
    return BytesResponse(data, 200, headers, media_type)


async def _find_part(context: RequestContext, request: PartGet) -> Part | None:
    """Return the part: from a stored message, or from an answer that isn't stored as a message, or not yet.

    Raises `NotFound` and `StoreError`.
    """
    services, user = context.services, context.principal.user
    try:
        record = await services.store.message(user, request.message)
    except NotFound:
        return await find_image(services.store, services.registry, user, request.message, request.number, request.turn)
    parts = (await offload(len(record.body), body_of, record)).parts
    return parts[request.number] if request.number < len(parts) else None


def _decode(data: str) -> bytes:
    """Decode base64 in slices, so that other threads may run between them."""
    if len(data) <= SLICE_CHARS:
        return binascii.a2b_base64(data)
    starts = range(0, len(data), SLICE_CHARS)
    return b"".join([binascii.a2b_base64(data[start : start + SLICE_CHARS]) for start in starts])


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
