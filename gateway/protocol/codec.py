"""JSON and MessagePack codecs: encode frames, and decode a client's frames to requests or typed errors.

Both carry the same maps: string keys, finite numbers, no extension types, no binary. This module also measures a value
in a frame, and splits and cuts text to a size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Literal, cast

import msgspec
from msgspec import Struct

from gateway.protocol.errors import ApiError
from gateway.protocol.plain_text import PLAIN_PATTERN, is_plain
from gateway.protocol.requests import (
    DEPTH_MAX,
    ID_CHARS_MAX,
    OWN_ID_PATTERN,
    UNTYPED_MESSAGE_FIELDS,
    USER_BYTES_MAX,
    AnyRequest,
    Ping,
    TurnStart,
)

# The range of MessagePack's integers. JSON alone could carry larger ones.
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**64 - 1

_JSON_ENCODER = msgspec.json.Encoder()
_MSGPACK_ENCODER = msgspec.msgpack.Encoder()
_REASON_CHARS_MAX = 500
"""How many characters of a long error message of msgspec are kept at its beginning, and how many at its end.

The message may quote a whole frame. Its beginning and its end are enough to explain the error.
"""
# Values that only MessagePack has, keys that aren't strings, and JSON numbers that are too large for a float.
_UNSUPPORTED_VALUE = re.compile(r"got `(bytes|ext|datetime)`|got `\w+` - at `key` in |^Number out of range")
_LONE_SURROGATE = re.compile(r"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])")
_NOT_PLAIN = f"Expected `str` matching regex {PLAIN_PATTERN!r}"
_NOT_AN_OWN_ID = f"Expected `str` matching regex {OWN_ID_PATTERN!r}"
_MISSING_FIELD = re.compile(r"Object missing required field `(\w{1,64})`")


class FrameError(Exception):
    """A frame that can't be used. `id` and `user` are the request's `id` and `as`, if they could be read."""

    def __init__(self, error: ApiError, request_id: str | None, user: str | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.id = request_id
        self.user = user


class _Envelope(Struct):
    """The fields of a broken frame that are needed to answer it."""

    id: Any = None
    user: Any = msgspec.field(default=None, name="as")


class Codec:
    """A codec for frames. `binary` says whether its frames use the binary WebSocket opcode.

    `decode_any` decodes any value, without a schema. It raises `msgspec.DecodeError`, `RecursionError` or `UnicodeError`.
    `size` returns about how many bytes a frame takes in an outbox.
    """

    __slots__ = (
        "_decode_envelope",
        "_decode_request",
        "binary",
        "decode_any",
        "encode",
        "index",
        "name",
        "size",
        "subprotocol",
    )

    def __init__(
        self,
        index: int,
        name: Literal["json", "msgpack", "events"],
        encode: Callable[[Any], bytes],
        decode_request: Callable[[bytes | str], AnyRequest],
        decode_envelope: Callable[[bytes | str], _Envelope],
        decode_any: Callable[[bytes | str], Any],
        size: Callable[[Any], int] = len,
    ) -> None:
        self.index = index
        self.name = name
        self.binary = name == "msgpack"
        self.subprotocol = f"turnwire.v1.{name}"
        self.encode = encode
        self._decode_request = decode_request
        self._decode_envelope = decode_envelope
        self.decode_any = decode_any
        self.size = size

    def decode(self, data: bytes | str) -> AnyRequest:
        """Decode a client's frame to a request. Raise `FrameError` if it can't be used."""
        try:
            try:
                request = self._decode_request(data)
            except msgspec.ValidationError:
                whole = self._with_integers(data)
                if whole is None:
                    raise
                request = cast("AnyRequest", msgspec.convert(whole, AnyRequest))
            check_untyped_values(request)
        except (msgspec.DecodeError, RecursionError, UnicodeError, ApiError) as error:
            raise FrameError(self._frame_error(error, data), *self._recover_ids(data)) from None
        return request

    def _with_integers(self, data: bytes | str) -> dict[str, Any] | None:
        """Return the fields of a refused frame with 1 instead of 1.0, as JSON allows both. None if it has no float."""
        fields = self.decode_any(data)
        if not isinstance(fields, dict) or not any(type(value) is float for value in fields.values()):
            return None
        return {name: integral(value) for name, value in fields.items()}

    def _frame_error(self, error: Exception, data: bytes | str) -> ApiError:
        if not self.binary and _is_lone_surrogate(str(error), str(data)):
            return ApiError(
                "invalid_frame", "The frame has half of a surrogate pair. Send complete Unicode characters."
            )
        return decode_error(RecursionError() if self._is_too_deep(data) else error)

    def _is_too_deep(self, data: bytes | str) -> bool:
        """Return whether a refused frame is nested too deeply.

        If it is, that explains the refusal better than msgspec's error, which names the first value of a wrong type.
        """
        try:
            _check_value(self.decode_any(data), "", 1)
        except RecursionError:
            return True
        except (msgspec.DecodeError, UnicodeError, ApiError):
            return False
        return False

    def _recover_ids(self, data: bytes | str) -> tuple[str | None, str | None]:
        try:
            envelope = self._decode_envelope(data)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return None, None
        return _usable_id(envelope.id, ID_CHARS_MAX), _usable_id(envelope.user, USER_BYTES_MAX)


def integral(value: Any) -> Any:
    """Return a float without a fraction as an int, else `value`."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _usable_id(value: object, chars_max: int) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= chars_max and is_plain(value) else None


def decode_error(error: Exception, *, is_body: bool = False) -> ApiError:
    """Return the API error for an exception that decoding a frame, or with `is_body` that of an HTTP request, has raised.

    Its code is "invalid_frame" if the frame is unreadable or nested too deeply, or has an unknown type, an unknown field
    or a value that no frame may have. It is "invalid_request", with the path, if a field has a wrong value.
    """
    if isinstance(error, ApiError):
        return error
    unit, advice = ("body", "Send one JSON object") if is_body else ("frame", "Send one map per frame")
    if isinstance(error, RecursionError):
        return ApiError("invalid_frame", f"The {unit} is nested deeper than {DEPTH_MAX} levels. Flatten it.")
    text = str(error).replace(_NOT_PLAIN, "Control and format characters aren't allowed in a name")
    text = text.replace(_NOT_AN_OWN_ID, "An id that a client makes has 1 to 64 of the characters A-Z a-z 0-9 _ . -")
    if len(text) > 2 * _REASON_CHARS_MAX:
        text = f"{text[:_REASON_CHARS_MAX]}…{text[-_REASON_CHARS_MAX:]}"
    if not isinstance(error, msgspec.ValidationError):
        return ApiError("invalid_frame", f"The {unit} can't be decoded: {_shorten(text)}. {advice}.")
    reason, path = _split_message(text)
    missing = _MISSING_FIELD.match(text)
    if missing is not None:
        path = f"{path}.{missing.group(1)}" if path else missing.group(1)
    if text.startswith("Object contains unknown field") or path in {"", "type"} or _UNSUPPORTED_VALUE.search(text):
        return ApiError(
            "invalid_frame", f"{reason}. Check the type and the field names against the protocol.", path=path or None
        )
    return ApiError("invalid_request", f"{reason}. Correct the field.", path=path)


def _split_message(text: str) -> tuple[str, str]:
    """Return msgspec's reason and the path, from a message like "Expected `int`, got `str` - at `$.a.b`".

    The path is empty if there is none. A name that msgspec quotes may look like a path.
    """
    reason, _, location = text.rpartition(" - at `")
    location = location.removeprefix("key` in `")
    if not reason or not location.startswith("$") or not location.endswith("`"):
        return _shorten(text), ""
    return _shorten(reason), location[1:-1].removeprefix(".")


def _is_lone_surrogate(reason: str, data: str) -> bool:
    """Return whether half of a surrogate pair is why a JSON text was refused.

    If the half is right before the closing quote, msgspec reports a truncated text.
    """
    return "surrogate" in reason or (reason == "Input data was truncated" and _LONE_SURROGATE.search(data) is not None)


def _shorten(reason: str) -> str:
    return reason if len(reason) <= 160 else reason[:160] + "…"


def check_untyped_values(request: AnyRequest) -> None:
    """Check values without a schema, and floats, by the rules that the typed decoder can't express.

    Raise `ApiError` if a value is wrong, and `RecursionError` if it is nested too deeply.
    """
    metadata = getattr(request, "metadata", None)
    if metadata is not None:
        _check_value(metadata, "metadata", 2)
    if isinstance(request, Ping):
        _check_value(request.t, "t", 2)
    elif isinstance(request, TurnStart):
        params = request.params
        for name in ("temperature", "top_p"):
            _check_value(getattr(params, name), f"params.{name}", 3)
        _check_value(params.response_format, "params.response_format", 3)
        _check_value(params.demo, "params.demo", 3)
        for n, tool in enumerate(request.tools or ()):
            _check_value(tool.parameters, f"tools[{n}].parameters", 4)
        for n, message in enumerate(request.messages or ()):
            for name in UNTYPED_MESSAGE_FIELDS:
                _check_value(getattr(message, name), f"messages[{n}].{name}", 4)


def _check_value(value: Any, path: str, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise RecursionError
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ApiError("invalid_frame", "Map keys must be strings. Change the key.", path=path)
            _check_value(inner, path, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_value(inner, path, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ApiError("invalid_frame", "Numbers must be finite. Change the number.", path=path)
    elif isinstance(value, int):
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise ApiError("invalid_frame", "Integers must fit in 64 bits. Send a larger number as text.", path=path)
    elif value is not None and not isinstance(value, str):
        raise ApiError(
            "invalid_frame", "Binary and extension types aren't supported. Send the data as base64 text.", path=path
        )


def encoded_size(value: Any) -> int:
    """Return how many bytes `value` takes inside a frame, in the codec that needs more."""
    return max(len(_JSON_ENCODER.encode(value)), len(_MSGPACK_ENCODER.encode(value)))


def chars_that_fit(bytes_max: int) -> int:
    """Return how many characters always fit in `bytes_max` bytes of a frame, including the quotes.

    A character takes at most six bytes, because JSON escapes control characters like \\u001f.
    """
    return (bytes_max - 2) // 6


def split_text(text: str, bytes_max: int) -> list[str]:
    """Split `text` into consecutive pieces. Each takes at most `bytes_max` bytes in a frame, or is one character."""
    if len(text) <= chars_that_fit(bytes_max):
        return [text]
    pieces: list[str] = []
    start = 0
    while start < len(text):
        # Each character takes at least one byte, so a longer slice can't fit.
        piece = clip_text(text[start : start + bytes_max], bytes_max) or text[start]
        pieces.append(piece)
        start += len(piece)
    return pieces or [text]


def clip_text(text: str, bytes_max: int) -> str:
    """Return a prefix of `text` that takes at most `bytes_max` bytes in a frame; empty if nothing fits."""
    text = text[: max(bytes_max, 0)]
    while text and (size := encoded_size(text)) > bytes_max:
        text = text[: len(text) * bytes_max // (size + 1)]
    return text


JSON = Codec(
    0,
    "json",
    _JSON_ENCODER.encode,
    # Without the hook msgspec takes fifty times as long for a number near the end of the range, such as 1e308.
    msgspec.json.Decoder(AnyRequest, float_hook=float).decode,
    msgspec.json.Decoder(_Envelope, float_hook=float).decode,
    msgspec.json.Decoder(float_hook=float).decode,
)
MSGPACK = Codec(
    1,
    "msgpack",
    _MSGPACK_ENCODER.encode,
    msgspec.msgpack.Decoder(AnyRequest).decode,  # type: ignore[arg-type]
    msgspec.msgpack.Decoder(_Envelope).decode,  # type: ignore[arg-type]
    msgspec.msgpack.decode,  # type: ignore[arg-type]
)
CODECS: tuple[Codec, ...] = (JSON, MSGPACK)
"""The codecs of frames that clients receive."""
EVENT_BYTES = 256


def _event_size(event: Any) -> int:
    """Return about how many bytes an event takes in an outbox."""
    text = getattr(event, "text", None)
    return EVENT_BYTES + (len(text) if isinstance(text, str) else 0)


def _decode_nothing(_: bytes | str) -> Any:
    raise AssertionError("a dialect receives no frames")


EVENTS = Codec(
    len(CODECS),
    "events",
    cast("Callable[[Any], bytes]", lambda event: event),
    _decode_nothing,
    _decode_nothing,
    _decode_nothing,
    _event_size,
)
"""The codec of a dialect's stream: its frames are the event structs themselves, which the dialect encodes."""
CODECS_COUNT = len(CODECS) + 1
BY_SUBPROTOCOL: dict[str, Codec] = {codec.subprotocol: codec for codec in CODECS}
