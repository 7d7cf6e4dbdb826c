"""The interface of a dialect: its name, its errors, and a request of its protocol that starts a turn. No I/O.

The modules of the dialects translate to and from these types. The handlers in `gateway/http/dialects` serve them.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from gateway.dialects.stream import StreamTranslator
from gateway.protocol.decode_errors import decode_error
from gateway.protocol.errors import ApiError, ErrorBody
from gateway.protocol.requests import OWN_ID_PATTERN, TurnStart
from gateway.protocol.results import TurnView
from gateway.protocol.untyped_values import check_untyped_values
from providers.base import FilePart, ImagePart

DialectName = Literal["turnwire", "chat_completions", "responses", "ai_sdk", "ag_ui", "messages", "plain_http"]
"""The values of the label `dialect`. Our own protocol is "turnwire"."""

Headers = Mapping[str, str]
"""The headers of a request, looked up by lower-case names."""

T = TypeVar("T")

ON_DISCONNECT_HEADER = "turnwire-on-disconnect"
TURN_HEADERS = ("turnwire-turn", "idempotency-key")
"""The headers in which a client may choose the id of the turn, so that it can repeat the request (law 6)."""

_OWN_ID = re.compile(OWN_ID_PATTERN)
_DATA_URL = re.compile(r"data:([\w.+-]{1,100}/[\w.+-]{1,100})(?:;[\w.+-]{1,50}=[\w.+-]{1,50}){0,4};base64,", re.ASCII)


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
    """Return `start` after the checks that decoding it from a frame would make. Raises `ApiError`."""
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


def new_turn_id(prefix: str) -> str:
    """Return an id for a turn that begins with the dialect's prefix, such as `chatcmpl-`."""
    return prefix + secrets.token_urlsafe(18)


def own_id(prefix: str, *names: str) -> str:
    """Return the id of a turn or a conversation that a client names: the name itself if it is valid as an id, else a digest.

    Several names, such as a chat's id and a message's id, are joined.
    """
    name = names[0] if len(names) == 1 else ""
    if _OWN_ID.fullmatch(name) and name not in {".", ".."}:
        return name
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()
    return prefix + digest[:40]


def conversation_id(name: str) -> str:
    """Return the id of the conversation that a client names, such as a chat or a thread: see `own_id`."""
    return own_id("c_", name)


def turn_id(headers: Headers, prefix: str) -> str:
    """Return the id of the turn that a request starts: the client's, or a new one."""
    sent = next((value for name in TURN_HEADERS if (value := headers.get(name))), None)
    return new_turn_id(prefix) if sent is None else own_id(prefix, sent)


def on_disconnect(headers: Headers, default: Literal["continue", "cancel"]) -> Literal["continue", "cancel"]:
    """Return what happens to the turn when its client disconnects. Raises `ApiError`."""
    sent = headers.get(ON_DISCONNECT_HEADER, default)
    if sent == "continue":
        return "continue"
    if sent == "cancel":
        return "cancel"
    raise ApiError(
        "invalid_request", "Turnwire-On-Disconnect must be continue or cancel.", path="Turnwire-On-Disconnect"
    )


def media_part(url: str, path: str, name: str | None = None, *, image: bool = False) -> ImagePart | FilePart:
    """Return the part for the address of a file, or of an image if `image`. It may be a `data:` address.

    Raises `ApiError`.
    """
    match = _DATA_URL.match(url)
    if match is None:
        if url.startswith("data:"):
            raise ApiError("invalid_request", "Invalid data. Send data:TYPE;base64,… with the bytes.", path=path)
        guessed = mimetypes.guess_type(url.partition("?")[0])[0] or ""
        if image:
            return ImagePart(guessed if guessed.startswith("image/") else "image/jpeg", url=url, name=name)
        return FilePart(guessed or "application/pdf", url=url, name=name)
    media_type, data = match.group(1).lower(), url[match.end() :]
    made = ImagePart if image or media_type.startswith("image/") else FilePart
    return made(media_type, data=data, name=name)


def encode_sse(data: Any, event: str | None = None) -> bytes:
    """Return `data` as a server-sent event. For the frames of each token, build the bytes by hand instead."""
    head = b"" if event is None else b"event: %b\n" % event.encode()
    return b"%bdata: %b\n\n" % (head, encode_json(data))


encode_json = msgspec.json.Encoder().encode
