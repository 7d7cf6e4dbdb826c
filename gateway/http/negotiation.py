"""Parse the request headers that control the response: `Accept`, `Prefer` and `Last-Event-ID`. This module does no I/O."""

from __future__ import annotations

import re

from starlette.datastructures import Headers

from gateway.http.responses import HttpError
from gateway.protocol.errors import ApiError

RANGES_MAX = 100
RANGE_CHARS_MAX = 300
"""The limits on the items in a header and on the length of a media range. Browsers send less; any excess is ignored."""
EVENT_ID = re.compile(r"^([0-9]{1,15})-([0-9]{1,15})$")


def negotiate_media_type(headers: Headers, offered: tuple[str, ...]) -> str:
    """Return the preferred media type of `offered`. Raise `HttpError` 406 if the client accepts none of them."""
    if not (best := preferred_media_type(headers, offered)):
        raise HttpError(406, f"No acceptable media type. Accept one of {', '.join(offered)}.", path="Accept")
    return best


def preferred_media_type(headers: Headers, offered: tuple[str, ...]) -> str:
    """Return the media type of `offered` that the client prefers: on a tie the first one, empty if it accepts none."""
    accept = ",".join(headers.getlist("accept")) or "*/*"
    ranges = [_parse_range(part) for part in accept.split(",", RANGES_MAX)[:RANGES_MAX] if part.strip()]
    best, best_quality = "", 0.0
    for media_type in offered:
        quality = _quality(media_type, ranges)
        if quality > best_quality:
            best, best_quality = media_type, quality
    return best


def _parse_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part[:RANGE_CHARS_MAX].split(";"))
    quality = 1.0
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                quality = float(parameter[2:])
            except ValueError:
                quality = 0.0
    return name, quality


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """Return the quality of the most specific range that matches `media_type`, or 0 if none does.

    `ranges` are pairs of a media range and its quality.
    """
    for media_range in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        qualities = [quality for name, quality in ranges if name == media_range]
        if qualities:
            return max(qualities)
    return 0.0


def prefers_async(headers: Headers) -> bool:
    """Return whether the client asks for a response before the turn ends: `Prefer: respond-async` (RFC 7240)."""
    preferences = ",".join(headers.getlist("prefer")).split(",", RANGES_MAX)[:RANGES_MAX]
    return any(preference.partition(";")[0].strip().lower() == "respond-async" for preference in preferences)


def parse_last_event_id(headers: Headers) -> tuple[int, int]:
    """Return the position in `Last-Event-ID` as (epoch, seq), or (0, 0) if the header is absent or blank.

    Raise `ApiError` if the header is not the id of an event.
    """
    event_id = headers.get("last-event-id", "").strip()
    if not event_id:
        return 0, 0
    match = EVENT_ID.fullmatch(event_id)
    if match is None:
        raise ApiError(
            "invalid_request",
            "Last-Event-ID isn't the id of an event. Send an id like 1795247464000-7.",
            path="Last-Event-ID",
        )
    return int(match.group(1)), int(match.group(2))
