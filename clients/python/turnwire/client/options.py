"""The options of `connect`, checked, and the state of a connection."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from turnwire.client.address import Address, address_of
from turnwire.client.errors import TurnwireError

Credential: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A token or ticket, or a function that returns a fresh one. A function may be async."""

Transport: TypeAlias = Literal["socket", "http"]


class ConnectionState(msgspec.Struct, frozen=True):
    """Whether a connection is up. `reason` says why it isn't, and `retry_in_s` when it is tried again."""

    state: Literal["connecting", "live", "waiting", "closed"]
    reason: str = ""
    retry_in_s: float | None = None


class Options(NamedTuple):
    """What `connect` was given."""

    address: Address
    token: Credential | None
    ticket: Credential | None
    codec: Literal["json", "msgpack"]
    transport: Literal["auto", "socket", "http"]
    headers: Mapping[str, str]
    ssl: ssl_module.SSLContext | None
    open_timeout: float

    @staticmethod
    def checked(
        url: str,
        *,
        token: Credential | None,
        ticket: Credential | None,
        codec: Literal["json", "msgpack"],
        transport: Literal["auto", "socket", "http"],
        headers: Mapping[str, str] | None,
        ssl: ssl_module.SSLContext | None,
        open_timeout: float,
    ) -> Options:
        """Return the options. Raise `InvalidUrl`, or a TurnwireError with the code `invalid_option`."""
        address = address_of(url)
        if codec not in ("json", "msgpack"):
            raise _invalid(f"The codec {codec!r} is unknown. Use 'json' or 'msgpack'.")
        if transport not in ("auto", "socket", "http"):
            raise _invalid(f"The transport {transport!r} is unknown. Use 'auto', 'socket' or 'http'.")
        if token is not None and ticket is not None:
            raise _invalid("Both token and ticket are given. Pass one of them.")
        if ticket is not None and transport == "http":
            raise _invalid("A ticket opens a socket only. Pass a token to use HTTP.")
        _check_headers(headers or {})
        if ssl is not None and not address.secure:
            raise _invalid("ssl is given, but the URL isn't wss:// or https://. Change one of them.")
        return Options(address, token, ticket, codec, transport, dict(headers or {}), ssl, open_timeout)


def _check_headers(headers: Mapping[str, str]) -> None:
    """Raise a TurnwireError for a header that can't be sent as one line: a line break would add another header."""
    for name, value in headers.items():
        text = f"{name}{value}"
        if not name or not text.isascii() or not text.isprintable():
            raise _invalid(f"The header {name!r} has characters that aren't printable ASCII, or no name. Correct it.")


def _invalid(message: str) -> TurnwireError:
    return TurnwireError(message, code="invalid_option")
