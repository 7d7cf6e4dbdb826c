"""Who may open a connection: the rules for `Host` and `Origin`, and the principal of a connection."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from gateway.errors import ApiError
from gateway.settings import LOOPBACK_NAMES, Settings

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d{1,5})?", re.ASCII)

Headers = Iterable[tuple[bytes, bytes]]


class Principal(Struct, frozen=True):
    """Whom a credential names."""

    user: str


LOCAL = Principal("local")
"""Everyone, where auth is off."""


async def authenticate(headers: Headers, settings: Settings) -> Principal:
    """Whom the credential of a request or an opening names. Raises `ApiError` "unauthenticated"."""
    return LOCAL


def header(headers: Headers, name: bytes) -> str | None:
    """The first header of that (lower-case) name."""
    return next((value.decode("latin-1") for key, value in headers if key == name), None)


def is_loopback(host: str) -> bool:
    """Whether a `Host` value, with or without a port, names this machine's loopback."""
    found = _HOST.fullmatch(host)
    if found is None:
        return host in LOOPBACK_NAMES
    name = found.group(1).lower()
    return name in LOOPBACK_NAMES or name.endswith(".localhost")


def check_host(headers: Headers, settings: Settings) -> None:
    """With auth off, a page of another site must not reach us by a name that it made point here (DNS rebinding)."""
    hosts = [value.decode("latin-1") for key, value in headers if key == b"host"]
    if settings.loopback_only and (len(hosts) != 1 or not is_loopback(hosts[0])):
        raise ApiError("forbidden", "Auth is off, so only loopback names are served. Open the page as 127.0.0.1.")


def check_origin(headers: Headers, settings: Settings) -> None:
    """Browsers may connect from the page's own origin and from those that the operator listed."""
    origin = header(headers, b"origin")
    if origin is None or origin in settings.allowed_origins:
        return
    scheme, _, authority = origin.partition("://")
    if scheme in {"http", "https"} and authority.lower() == (header(headers, b"host") or "").lower():
        return
    raise ApiError("forbidden", "This origin may not connect. The operator can list it in TURNWIRE_ALLOWED_ORIGINS.")
