"""The download of an image or a file of a message."""

from __future__ import annotations

import binascii
import re
from urllib.parse import quote

from starlette.responses import Response

from gateway.http.operation import PartGet, RequestContext
from gateway.http.responses import NO_STORE, BytesResponse
from gateway.offload import offload
from gateway.protocol.views import body_of
from gateway.turns.answer_images import find_image
from providers.base import FilePart, ImagePart, Part
from store.errors import NotFound

SLICE_CHARS = 256 * 1024
"""How much base64 is decoded at once, a multiple of 4."""

_MEDIA_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}", re.ASCII)


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
