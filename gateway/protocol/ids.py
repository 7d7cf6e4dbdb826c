"""Ids (128 random bits behind a prefix that names the kind) and the clock in the wire's words."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_id(prefix: str) -> str:
    """A fresh id like `c_3q2-7w…`: unguessable, at most 64 characters, safe in URLs."""
    return f"{prefix}_{secrets.token_urlsafe(16)}"


def now_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


def rfc3339(ms: int) -> str:
    """`ms` since 1970 as RFC 3339, UTC, with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def from_rfc3339(text: str) -> int:
    """Milliseconds since 1970. Raises `ValueError` if `text` is no RFC 3339 time with an offset."""
    moment = datetime.fromisoformat(text.upper())
    if moment.tzinfo is None:
        raise ValueError("a time needs an offset, such as Z")
    return (moment - _EPOCH) // timedelta(milliseconds=1)
