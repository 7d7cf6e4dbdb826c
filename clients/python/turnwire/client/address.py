"""The address of a gateway, from the URL that a program passes."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

from turnwire.client.errors import InvalidUrl

SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
CREDENTIALS = ("token", "access_token", "api_key")


class Address(NamedTuple):
    """`socket` is the URL of the WebSocket, `base` that of the HTTP API, without a slash at the end."""

    socket: str
    base: str
    host: str
    port: int
    secure: bool


def address_of(url: str) -> Address:
    """Return the address. Raise `InvalidUrl` if `url` can't be that of a gateway."""
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname
    except (ValueError, AttributeError, TypeError):
        raise _invalid(url, "it isn't a URL") from None
    if parts.scheme.lower() not in SCHEMES:
        raise _invalid(url, "it doesn't begin with ws://, wss://, http:// or https://")
    problem = _problem(url, parts, host)
    if problem:
        raise _invalid(url, problem)
    scheme = SCHEMES[parts.scheme.lower()]
    secure = scheme == "wss"
    path = parts.path
    if path.strip("/") == "" or (parts.scheme.lower().startswith("http") and not path.rstrip("/").endswith("/ws")):
        path = f"{path.rstrip('/')}/ws"
    base = urlunsplit(("https" if secure else "http", parts.netloc, path.rpartition("/")[0], "", ""))
    socket = urlunsplit((scheme, parts.netloc, path, parts.query, ""))
    return Address(socket, base, host or "", port or (443 if secure else 80), secure)


def _problem(url: str, parts: SplitResult, host: str | None) -> str | None:
    if not host:
        return "it has no host"
    if parts.fragment:
        return "it has a fragment (#)"
    if parts.username is not None:
        return "it has a user name; pass the credential as token="
    if any(part.partition("=")[0] in CREDENTIALS for part in parts.query.split("&")):
        return "it has a credential in it, which would end up in logs; pass it as token="
    if not url.isascii() or any(character.isspace() for character in url):
        return "it has spaces or characters that aren't ASCII"
    return None


def _invalid(url: object, why: str) -> InvalidUrl:
    # Neither a query nor a login is shown: they may have a credential.
    shown = re.sub(r"//[^/?#]*@", "//", str(url)[:300].partition("?")[0])
    return InvalidUrl(
        f"{shown[:200]!r} can't be the URL of a gateway: {why}. Use one such as wss://gateway.example/ws."
    )
