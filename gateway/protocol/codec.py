"""JSON and MessagePack codecs: encode frames, and decode a client's frames to requests or typed errors.

Both carry the same maps: string keys, finite numbers, no extension types, no binary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import msgspec
from msgspec import Struct

from gateway.protocol.decode_errors import decode_error, is_lone_surrogate
from gateway.protocol.errors import ApiError
from gateway.protocol.plain_text import is_plain
from gateway.protocol.requests import ID_CHARS_MAX, USER_BYTES_MAX, AnyRequest
from gateway.protocol.untyped_values import check_untyped_values, check_value

_JSON_ENCODER = msgspec.json.Encoder()
_MSGPACK_ENCODER = msgspec.msgpack.Encoder()


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
        if not self.binary and is_lone_surrogate(str(error), str(data)):
            return ApiError(
                "invalid_frame", "The frame has half of a surrogate pair. Send complete Unicode characters."
            )
        return decode_error(RecursionError() if self._is_too_deep(data) else error)

    def _is_too_deep(self, data: bytes | str) -> bool:
        """Return whether a refused frame is nested too deeply.

        If it is, that explains the refusal better than msgspec's error, which names the first value of a wrong type.
        """
        try:
            check_value(self.decode_any(data), "", 1)
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
