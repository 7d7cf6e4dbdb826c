"""The rules for the `Host` and `Origin` headers. Credentials are checked in `authenticator.py`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs

from gateway.identity.refused_origins import SETTING, refused_origins
from gateway.protocol.errors import ApiError
from gateway.protocol.plain_text import escape_invisible
from gateway.settings import LOOPBACK_NAMES, Settings

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d{1,5})?", re.ASCII)

PROXY_HEADERS = re.compile(
    rb"via|cdn-loop|(x-(original-)?)?forwarded(-.*)?|(cf|tailscale|x-(envoy|azure|appengine))-.*|.*(-|client)ip"
)
"""The names of headers that show that a proxy has forwarded the request. They include all that end in `-ip`.

Replace each `_` in a name by `-` before the match.
"""

Headers = Iterable[tuple[bytes, bytes]]

ORIGIN_CHARS_MAX = 200
"""How much of a refused origin is shown."""


def header_values(headers: Headers, name: bytes) -> list[str]:
    """Return the values of the header with that lower-case name."""
    return [value.decode("latin-1") for key, value in headers if key == name]


def credential_values(headers: Headers) -> list[str]:
    """Return the values of `Authorization`, or the keys in `x-api-key` as such values if there are none."""
    return header_values(headers, b"authorization") or [f"Bearer {key}" for key in header_values(headers, b"x-api-key")]


def is_loopback(host: str) -> bool:
    """Return whether a `Host` value, with or without a port, names this machine's loopback."""
    found = _HOST.fullmatch(host)
    if found is None:
        return host in LOOPBACK_NAMES
    name = found.group(1).lower()
    return name in LOOPBACK_NAMES or name.endswith(".localhost")


def check_host(headers: Headers, settings: Settings) -> None:
    """Check the `Host` header. Raise `ApiError` "forbidden" if it isn't allowed.

    Two `Host` headers are refused, because a proxy in front may have checked the other one. With auth off and without
    `insecure`, only loopback names are allowed, as a defense against DNS rebinding by a page of another site. Requests
    that a proxy forwarded are then refused too.
    """
    hosts = header_values(headers, b"host")
    if len(hosts) > 1:
        raise ApiError("forbidden", "The request has more than one Host header. Send one.")
    if not settings.loopback_only:
        return
    if len(hosts) != 1 or not is_loopback(hosts[0]):
        raise ApiError("forbidden", "Auth is off, so only loopback hosts are allowed. Use the host 127.0.0.1.")
    proxy_header = next(
        (key.decode("latin-1") for key, _ in headers if PROXY_HEADERS.fullmatch(key.replace(b"_", b"-"))), None
    )
    if proxy_header is not None:
        raise ApiError(
            "forbidden",
            f"Auth is off, so requests that a proxy has forwarded ({proxy_header}) are refused. Set TURNWIRE_AUTH, "
            "or set TURNWIRE_INSECURE=1 to admit every client that reaches the proxy.",
        )


def check_origin(headers: Headers, settings: Settings) -> None:
    """Check that a browser connects from the page's own origin or from one that the operator listed.

    Raise `ApiError` "forbidden_origin" if not, and log that. A request without `Origin` passes.
    """
    origins = header_values(headers, b"origin")
    if not origins or (len(origins) == 1 and origins[0] in settings.allowed_origins):
        return
    scheme, _, authority = origins[0].partition("://")
    is_own = authority.lower() == (header_values(headers, b"host") or [""])[0].lower()
    if len(origins) == 1 and scheme in {"http", "https"} and is_own:
        return
    shown = escape_invisible(", ".join(origins)[:ORIGIN_CHARS_MAX])[:ORIGIN_CHARS_MAX]
    refused_origins.note(shown)
    raise ApiError(
        "forbidden_origin",
        f"Pages of the origin {shown or '(empty)'} may not use this gateway. The operator can add it to {SETTING}.",
    )


def check_stated_origin(headers: Headers, query_string: bytes, settings: Settings) -> None:
    """Check the `Origin` of a request, and the `origin` in its query: see `check_origin`. Raises `ApiError`.

    A browser sends no `Origin` with a simple request to the page's own origin, though it does with a socket. A proxy may
    give the gateway another `Host` than the page's, so a page states its origin to learn why its socket is refused.
    """
    check_origin(headers, settings)
    for stated in parse_qs(query_string.decode("latin-1"), keep_blank_values=True).get("origin", [])[:1]:
        others = [(name, value) for name, value in headers if name != b"origin"]
        check_origin([*others, (b"origin", stated.encode("latin-1", "replace"))], settings)


def check_socket_origin(headers: Headers, settings: Settings) -> None:
    """Check the origin of an opening socket, as `check_origin` does. Raises `ApiError`.

    With auth on, a client without `Origin` must send a credential in a header, which no browser sends with a socket.
    """
    check_origin(headers, settings)
    if settings.auth != "none" and not header_values(headers, b"origin") and not credential_values(headers):
        raise ApiError(
            "forbidden", "The Origin header is missing. Without it, send the credential as Authorization: Bearer."
        )


def client_host(scope: Mapping[str, Any]) -> str:
    """Return the client's address, as a trusted proxy or the socket names it; empty for a Unix socket."""
    client = scope.get("client")
    return client[0] if client else ""
