"""Read the body of an HTTP request, and decode path, query and body to a typed request.

The type and the checks are the same as for a WebSocket frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from gateway.http.responses import HttpError
from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol.codec import JSON, integral
from gateway.protocol.decode_errors import decode_error
from gateway.protocol.errors import ApiError
from gateway.protocol.untyped_values import check_untyped_values
from gateway.protocol.value_count import SLICE_BYTES, ValueCount

JSON_TYPE = "application/json"
COUNT_ABOVE_BYTES = 64 * 1024
CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})


R = TypeVar("R", bound=p.Request)

_INPUT_FIELDS = {"input": None, "messages": None, "system": None}


async def read_body(
    headers: Headers,
    receive: Receive,
    bytes_max: int,
    on_size: Callable[[int], None] = lambda _: None,
    values: ValueCount | None = None,
) -> bytes:
    """Read and return the body. Raises `HttpError` 413 or 415, and `ClientDisconnect`; the server limits the time.

    After each piece, `on_size` is called with the number of bytes so far, and may raise. `values` counts the values of a
    body larger than `COUNT_ABOVE_BYTES`, and raises `ApiError` "too_large" if there are too many.
    """
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > bytes_max:
        raise _too_large(bytes_max)
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        piece = message.get("body", b"")
        size += len(piece)
        if size > bytes_max:
            raise _too_large(bytes_max)
        on_size(size)
        pieces.append(piece)
        if values is not None and size > COUNT_ABOVE_BYTES:
            await _count_values(values, [piece] if size - len(piece) > COUNT_ABOVE_BYTES else pieces)
        if not message.get("more_body", False):
            break
    if size:
        _check_type(headers)
    return await offload(size, b"".join, pieces)


def _check_type(headers: Headers) -> None:
    """Check that the body is JSON in UTF-8 (RFC 8259 allows no other charset), without a content encoding.

    Raise `HttpError` 415 if not.
    """
    media_type, _, parameters = headers.get("content-type", "").lower().partition(";")
    if media_type.strip() != JSON_TYPE:
        raise HttpError(415, f"The body must be JSON. Send it with content-type: {JSON_TYPE}.")
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in CHARSETS:
            raise HttpError(415, "The body must be JSON in UTF-8. Encode it as UTF-8, and leave the charset out.")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise HttpError(415, "Compressed bodies aren't supported. Send the body without content-encoding.")


async def _count_values(values: ValueCount, pieces: list[bytes]) -> None:
    """Count the values of `pieces` in slices, and let other tasks run in between. Raises `ApiError`."""
    for piece in pieces:
        for at in range(0, len(piece), SLICE_BYTES):
            if values.feed(piece[at : at + SLICE_BYTES]):
                await asyncio.sleep(0)
    await asyncio.sleep(0)


def _too_large(bytes_max: int) -> HttpError:
    return HttpError(413, f"The body is larger than {bytes_max} bytes. Send less.")


def parse_query(query: bytes, fields: tuple[str, ...]) -> dict[str, str]:
    """Return the fields of `query`.

    Raise `ApiError` if the query can't be decoded, or if a field is repeated or isn't in `fields`.
    """
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32)
    except ValueError:
        raise ApiError("invalid_request", "The query can't be decoded. Send it as percent-encoded UTF-8.") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in fields:
            advice = f"Send only {', '.join(fields)}." if fields else "Leave it out: this address has no query fields."
            raise ApiError("invalid_request", f"The query has an unknown field. {advice}", path=name)
        if name in found:
            raise ApiError("invalid_request", f"The query has the field `{name}` twice. Send it once.", path=name)
        found[name] = value
    return found


def decode_query(kind: type[R], path: Mapping[str, str], query: Mapping[str, str]) -> R:
    """Return a request of the type `kind`, with its fields from the path and the query. Raises `ApiError`."""
    request = convert_request(kind, {**path, **query}, strict=False)
    attributes = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
    for name in query:
        # msgspec reads the text `null` as a null if the field may be null and isn't text.
        if getattr(request, attributes[name]) is None:
            raise ApiError("invalid_request", f"`{name}` is null. Leave it out, or send a value.", path=name)
    return request


def decode_body(kind: type[R], path: Mapping[str, str], body: bytes, fields: tuple[str, ...]) -> R:
    """Return a request of the type `kind`, with its fields from the body and the path. Raises `ApiError`.

    `fields` are the names that the body may have, in addition to `type`. An empty body is an object without fields.
    """
    try:
        fields_by_name = JSON.decode_any(body) if body else {}
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise decode_error(error, is_body=True) from None
    if not isinstance(fields_by_name, dict):
        raise ApiError("invalid_frame", "The body isn't a JSON object. Send one JSON object.")
    for name in fields_by_name:
        if name not in fields and name != "type":
            raise _unknown_field(name)
    return convert_request(kind, {**{name: integral(value) for name, value in fields_by_name.items()}, **path})


def decode_start(
    body: bytes, other_bytes_max: int, decode: Callable[[bytes], p.TurnStart] = p.decode_turn_start
) -> p.TurnStart:
    """Return the `turn.start` in `body`, or the request that another `decode` returns. Raises `ApiError` and `HttpError`.

    `other_bytes_max` limits everything but the input (`input`, `messages` and `system`), which may be larger than a frame.
    """
    try:
        start = decode(body)
        rest = msgspec.structs.replace(start, **_INPUT_FIELDS)
        if len(msgspec.json.encode(rest)) > other_bytes_max:
            raise HttpError(413, f"The body without its input is larger than {other_bytes_max} bytes. Send less.")
        check_untyped_values(start)
    except (msgspec.DecodeError, RecursionError, UnicodeError, ApiError) as error:
        raise decode_error(error, is_body=True) from None
    if start.id is not None or start.as_ is not None:
        name = "as" if start.id is None else "id"
        raise _unknown_field(name)
    return start


def _unknown_field(name: str) -> ApiError:
    return ApiError("invalid_frame", "The body has an unknown field. Leave it out.", path=name)


def convert_request(kind: type[R], fields_by_name: dict[str, Any], *, strict: bool = True) -> R:
    """Return a request of the type `kind` with the fields `fields_by_name`. Raises `ApiError`.

    With `strict` false, a number may be given as text, as in a query.
    """
    try:
        request = msgspec.convert(fields_by_name, kind, strict=strict)
        check_untyped_values(request)  # type: ignore[arg-type]
    except (msgspec.ValidationError, RecursionError, ApiError) as error:
        raise decode_error(error, is_body=True) from None
    return request
