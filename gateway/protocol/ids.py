"""Ids (a prefix for the kind of object, then 128 random bits), and times in the protocol's formats."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from gateway.protocol.errors import ApiError

REQUEST_ID_HEADER = b"x-request-id"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:=+/@-]{1,128}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_id(prefix: str) -> str:
    """Return a new id like `c_3q2-7w…`: unguessable, at most 64 characters, safe in URLs."""
    return f"{prefix}_{secrets.token_urlsafe(16)}"


def request_id_in(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the id in the first `X-Request-ID` of `headers`, whose names are in lower case.

    Return a new id if there is none, or if it isn't 1 to 128 of the allowed characters.
    """
    sent = next((value for name, value in headers if name == REQUEST_ID_HEADER), b"")
    return sent.decode() if _REQUEST_ID.fullmatch(sent) else new_id("rq")


def now_ms() -> int:
    """Return the current time in ms since 1970, UTC."""
    return time.time_ns() // 1_000_000


def rfc3339(ms: int) -> str:
    """Return `ms` since 1970 as an RFC 3339 time in UTC, with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def from_rfc3339(text: str) -> int:
    """Return the time in ms since 1970. Raise `ValueError` if `text` is not a time with an offset.

    Any time with an offset that Python parses as ISO 8601 is accepted, not only RFC 3339.
    """
    moment = datetime.fromisoformat(text.upper())
    if moment.tzinfo is None:
        raise ValueError("a time must have an offset, such as Z")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def time_of(field: str, text: str) -> int:
    """Return the time that a client sent in `field`, in ms since 1970. Raises `ApiError` "invalid_request"."""
    try:
        return from_rfc3339(text)
    except ValueError:
        message = f"`{field}` isn't an RFC 3339 time with an offset. Send a time like 2026-01-31T00:00:00Z."
        raise ApiError("invalid_request", message, path=field) from None
