"""From an HTTP request to the same typed request that a frame would be: path, query and body, checked as on the socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.datastructures import Headers
from starlette.types import Receive

from gateway.http.responses import HttpError
from gateway.protocol import requests as p
from gateway.protocol.codec import JSON, check_free_values, refusal
from gateway.protocol.errors import ApiError
from gateway.protocol.value_count import SLICE_BYTES, ValueCount

JSON_TYPE = "application/json"
COUNTED_ABOVE_BYTES = 64 * 1024
CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})


R = TypeVar("R", bound=p.Request)

_decode_start = msgspec.json.Decoder(p.TurnStart, float_hook=float).decode
_FREE_OF_START = {"input": None, "messages": None, "system": None}


class ClientGone(Exception):
    """The client went before its request was whole."""


async def read_body(
    headers: Headers,
    receive: Receive,
    bytes_max: int,
    on_size: Callable[[int], None] = lambda _: None,
    values: ValueCount | None = None,
) -> bytes:
    """The request's body. Raises `HttpError` and `ClientGone`; how long it may take is the server's business.

    `on_size` is told how large it has become, and may raise; `values` counts what is in a large one, and raises too.
    """
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > bytes_max:
        raise _too_large(bytes_max)
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > bytes_max:
            raise _too_large(bytes_max)
        on_size(size)
        pieces.append(piece)
        if values is not None and size > COUNTED_ABOVE_BYTES:
            await _count(values, [piece] if size - len(piece) > COUNTED_ABOVE_BYTES else pieces)
        if not message.get("more_body", False):
            break
    if size:
        _check_type(headers)
    return b"".join(pieces)


def _check_type(headers: Headers) -> None:
    """JSON as it stands: RFC 8259 knows no other charset. Raises `HttpError`."""
    media_type, _, parameters = headers.get("content-type", "").lower().partition(";")
    if media_type.strip() != JSON_TYPE:
        raise HttpError(415, f"The body is JSON here. Send it with content-type: {JSON_TYPE}.")
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in CHARSETS:
            raise HttpError(415, "The body is JSON in UTF-8. Send it so, and leave the charset out.")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise HttpError(415, "The body isn't unpacked here. Send it without content-encoding.")


async def _count(values: ValueCount, pieces: list[bytes]) -> None:
    """Count on in slices, with the others in between."""
    for piece in pieces:
        for at in range(0, len(piece), SLICE_BYTES):
            if values.feed(piece[at : at + SLICE_BYTES]):
                await asyncio.sleep(0)
    await asyncio.sleep(0)


def _too_large(bytes_max: int) -> HttpError:
    return HttpError(413, f"The body may take {bytes_max} bytes. Send less.")


def read_query(query: bytes, fields: tuple[str, ...]) -> dict[str, str]:
    """The query's fields, each at most once. Raises `ApiError`."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32)
    except ValueError:
        raise ApiError("invalid_request", "The query can't be read. Encode it as UTF-8 in percents.") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in fields:
            known = f"It may hold {', '.join(fields)}." if fields else "It takes none here."
            raise ApiError("invalid_request", f"The query holds an unknown field. {known}", path=name)
        if name in found:
            raise ApiError("invalid_request", f"The query says {name} twice. Send it once.", path=name)
        found[name] = value
    return found


def from_query(kind: type[R], path: Mapping[str, str], query: Mapping[str, str]) -> R:
    """A request whose fields are in its address. Raises `ApiError`."""
    return to_request(kind, {**path, **query}, strict=False)


def from_body(kind: type[R], path: Mapping[str, str], body: bytes, fields: tuple[str, ...]) -> R:
    """A request with these fields in its body, and others in its path. Raises `ApiError`."""
    try:
        given = JSON.read(body) if body else {}
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise refusal(error) from None
    if not isinstance(given, dict):
        raise ApiError("invalid_frame", "The body is one JSON object. Send a map.")
    for name in given:
        if name not in fields and name != "type":
            raise ApiError("invalid_frame", "The body has an unknown field. Leave it out.", path=name)
    return to_request(kind, {**{name: _whole(value) for name, value in given.items()}, **path})


def start_from_body(body: bytes, free_bytes_max: int) -> p.TurnStart:
    """A start, whose input may be large; all else in it is bounded as in a frame. Raises `ApiError`."""
    try:
        start = _decode_start(body)
        rest = msgspec.structs.replace(start, **_FREE_OF_START)
        if len(msgspec.json.encode(rest)) > free_bytes_max:
            raise HttpError(413, f"All but the input may take {free_bytes_max} bytes. Send less.")
        check_free_values(start)
    except (msgspec.DecodeError, RecursionError, UnicodeError, ApiError) as error:
        raise refusal(error) from None
    if start.id is not None or start.as_ is not None:
        name = "as" if start.id is None else "id"
        raise ApiError("invalid_frame", "The body has an unknown field. Leave it out.", path=name)
    return start


def _whole(value: Any) -> Any:
    """To JSON 1.0 is 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def to_request(kind: type[R], given: dict[str, Any], *, strict: bool = True) -> R:
    """A request of these fields. Raises `ApiError`."""
    try:
        request = msgspec.convert(given, kind, strict=strict)
        check_free_values(request)  # type: ignore[arg-type]
    except (msgspec.ValidationError, RecursionError, ApiError) as error:
        raise refusal(error) from None
    return request
