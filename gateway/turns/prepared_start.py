"""Check a `turn.start`, and encode what the store keeps of it: its JSON, the digest of its content, and its input."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from gateway.protocol.errors import over_limit
from gateway.protocol.requests import UNTYPED_MESSAGE_FIELDS, InputMessage, TurnStart
from gateway.protocol.validation import check_start, data_size, encode_metadata
from gateway.protocol.views import MessageBody, encode_body

_CONTENT = msgspec.json.Encoder(order="deterministic")
_NO_PARAMS = TurnStart().params
_LIST_BYTES = len("[null,null,null]")
"""The list `[input, messages, system]` can be longer than the whole request, both as JSON, but by no more than this.

The request leaves out absent fields; the list has them as null.
"""


class Prepared(NamedTuple):
    """A checked start: its JSON, the digest of its content, and its input as a message.

    `body`: the message as encoded for the history, or None if it has no parts.
    """

    content: bytes
    digest: bytes
    message: MessageBody
    body: bytes | None


def prepare(
    request: TurnStart, input_bytes_max: int, body_bytes_max: int, items_max: int, metadata_bytes_max: int
) -> Prepared:
    """Check a start, and encode the data that the store will keep. Raises `ApiError`.

    This takes long for a large start, so it may run in a thread, outside the event loop.
    """
    check_start(request, items_max)
    encode_metadata(request.metadata or {}, metadata_bytes_max)
    content, digest = encode_content(request)
    _check_size(request, len(content), input_bytes_max, body_bytes_max)
    message = MessageBody(request.input_parts, metadata=request.metadata)
    return Prepared(content, digest, message, encode_body(message) if message.parts else None)


def _check_size(request: TurnStart, content_bytes: int, text_bytes_max: int, bytes_max: int) -> None:
    """Raise `ApiError` "too_large" if the text of the input, or the whole input, is over its bound.

    `content_bytes` is the size of the whole start as JSON. The whole input is `input`, `messages` and `system`.
    Its text is everything but the data of images and files.
    """
    data_bytes = sum(map(data_size, request.parts))
    size = content_bytes + _LIST_BYTES
    if size - data_bytes <= text_bytes_max and size <= bytes_max:
        return
    size = len(_CONTENT.encode([request.input, request.messages, request.system]))
    if size - data_bytes > text_bytes_max:
        raise over_limit("The text of the input", size - data_bytes, text_bytes_max)
    if size > bytes_max:
        raise over_limit("The input", size, bytes_max)


def encode_content(request: TurnStart) -> tuple[bytes, bytes]:
    """Return the request as JSON, and the digest of the content that is compared in a repeated start (law 6).

    Two requests with the same meaning have the same digest: an absent value, an empty value and an explicit default
    are equal. `model` is an exception, because its default may change. `metadata` and `on_disconnect` aren't compared.
    """
    stored = structs.replace(request, id=None, as_=None)
    params, messages = request.params, request.messages
    params = structs.replace(
        params,
        stop=params.stop or None,
        response_format=_normalize(params.response_format),
        demo=_normalize(params.demo),
    )
    normalized = structs.replace(
        stored,
        metadata=None,
        on_disconnect="continue",
        params=_NO_PARAMS if params == _NO_PARAMS else params,
        messages=messages and [_normalize_message(message) for message in messages],
        tools=[structs.replace(tool, parameters=_normalize(tool.parameters) or {}) for tool in request.tools or ()]
        or None,
        tool_choice=None if request.tool_choice == "auto" else request.tool_choice,
    )
    content = _CONTENT.encode(stored)
    # `==` treats 1 and 1.0 as equal, but their JSON differs. Both can occur only in fields without a schema; without
    # such fields, equal requests have the same JSON.
    is_plain = params == _NO_PARAMS and not request.tools and normalized == stored
    is_plain = is_plain and not any(_untyped_fields(message) for message in messages or ())
    return content, hashlib.sha256(content if is_plain else _CONTENT.encode(normalized)).digest()


def _normalize_message(message: InputMessage) -> InputMessage:
    untyped = _untyped_fields(message)
    return structs.replace(message, **untyped) if untyped else message


def _untyped_fields(message: InputMessage) -> dict[str, Any]:
    """Return the normalized values of the message's fields that may have any JSON value, without those that are None."""
    values = {name: getattr(message, name) for name in UNTYPED_MESSAGE_FIELDS}
    return {name: _normalize(value) for name, value in values.items() if value is not None}


def _normalize(value: Any) -> Any:
    """Return a JSON value with 2.0 as 2, and its maps without nulls, empty maps and empty lists.

    Return None if the value itself is empty.
    """
    return _strip_empty(value) or None


def _strip_empty(value: Any) -> Any:
    if isinstance(value, dict):
        stripped = {key: _strip_empty(inner) for key, inner in value.items()}
        return {key: inner for key, inner in stripped.items() if inner is not None and inner not in ({}, [])}
    if isinstance(value, list):
        return [_strip_empty(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
