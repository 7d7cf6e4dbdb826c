"""The interface of a dialect: its name, its errors, and a request of its protocol that starts a turn. No I/O.

The modules of the dialects translate to and from these types. The handlers in `gateway/http/dialects` serve them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from gateway.dialects.stream import StreamTranslator
from gateway.protocol.decode_errors import decode_error
from gateway.protocol.errors import ApiError, ErrorBody
from gateway.protocol.requests import TurnStart
from gateway.protocol.results import TurnView
from gateway.protocol.untyped_values import check_untyped_values

DialectName = Literal["turnwire", "chat_completions", "responses", "ai_sdk", "ag_ui", "messages", "plain_http"]
"""The values of the label `dialect`. Our own protocol is "turnwire"."""

T = TypeVar("T")


class Shaped(NamedTuple):
    """A body in the shape of a dialect, with its status and headers."""

    status: int
    body: bytes
    headers: dict[str, str] = {}  # noqa: RUF012  # never changed
    media_type: str = "application/json"


class Dialect(Struct, frozen=True):
    """A protocol of another service.

    `refuse` shapes an error. It gets the error and the HTTP status that our own protocol has for it. `error_type` is the
    media type of errors.
    """

    name: DialectName
    refuse: Callable[[ErrorBody, int], Shaped]
    error_type: str = "application/json"


class Start(Struct):
    """A request of a dialect that starts a turn.

    `answer` shapes the answer of a completed or cancelled turn. `translator` makes the translator of a stream; None if
    the client waits for the whole answer. `path` translates the path of a field in an error to the dialect's names.
    """

    request: TurnStart
    answer: Callable[[TurnView], Shaped]
    translator: Callable[[], StreamTranslator] | None = None
    path: Callable[[str], str] = str


def decode_request(decode: Callable[[bytes], T], body: bytes, *, is_frame: bool = False) -> T:
    """Return the decoded body; with `is_frame`, it is the frame of a socket. Raises `ApiError`."""
    try:
        return decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise decode_error(error, is_body=not is_frame) from None


def checked(start: TurnStart, path: Callable[[str], str] = str) -> TurnStart:
    """Return `start` after the checks that a start in a frame has to pass. Raises `ApiError`."""
    try:
        found = msgspec.convert(msgspec.to_builtins(start), TurnStart)
        check_untyped_values(found)
    except (msgspec.ValidationError, RecursionError, ApiError) as error:
        raise renamed(decode_error(error, is_body=True), path) from None
    return found


def renamed(error: ApiError, path: Callable[[str], str]) -> ApiError:
    """Return the error with the path of its field translated by `path`."""
    body = error.body
    if body.path is not None:
        error.body = msgspec.structs.replace(body, path=path(body.path))
    return error


def failure_of(error: ErrorBody) -> ApiError:
    """Return the exception for an error that an event or a result carries."""
    return ApiError(
        error.code,
        error.message,
        retryable=error.retryable,
        retry_after_ms=error.retry_after_ms,
        path=error.path,
        stored_message=error.stored_message,
    )


def unsupported(field: str, advice: str = "Leave it out.") -> ApiError:
    """Return the error for a field of a dialect that has no equivalent here."""
    return ApiError("unsupported", f"`{field}` isn't supported. {advice}", path=field)


def encode_sse(data: Any, event: str | None = None) -> bytes:
    """Return `data` as a server-sent event. For the frames of each token, build the bytes by hand instead."""
    head = b"" if event is None else b"event: %b\n" % event.encode()
    return b"%bdata: %b\n\n" % (head, encode_json(data))


encode_json = msgspec.json.Encoder().encode
