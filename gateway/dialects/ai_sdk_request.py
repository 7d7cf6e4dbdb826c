"""The requests of the AI SDK: the body of a chat or of a stop, and the frame of a socket. No I/O."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field, structs

from gateway.dialects.ai_sdk_messages import UiMessage
from gateway.dialects.application_options import ApplicationOptions
from gateway.dialects.base import decode_request
from gateway.dialects.request_headers import Headers

UI_HEADER: Final = "x-vercel-ai-ui-message-stream"
UI_VERSION: Final = "v1"
_ENVELOPE = re.compile(
    rb'\s{0,9}\{\s{0,9}"type"\s{0,9}:\s{0,9}"\w{1,20}"\s{0,9},\s{0,9}"requestId"\s{0,9}:\s{0,9}"([\w.-]{1,256})"'
)
"""The beginning of a frame as the SDK writes it. It has the id with which a frame that isn't JSON can be answered, such as
one with half of an emoji."""
RequestId = Annotated[str, Meta(max_length=256)]
"""Each frame of an answer repeats it, so it can't be long."""


class UiTool(Struct, rename="camel"):
    """A tool that the client has. The schema of its input has one of three names."""

    name: str = ""
    type: str = "function"
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    parameters: dict[str, Any] | None = None
    function: dict[str, Any] | None = None


class UiOptions(ApplicationOptions, rename="camel", kw_only=True):
    """The fields that an application may add to the body of a request. Unknown ones are ignored."""

    tools: list[UiTool] | dict[str, UiTool] | None = None


class UiRequest(UiOptions, rename="camel", kw_only=True):
    """A request of a chat: with all messages, or only with the last one."""

    id: str | None = None
    messages: list[UiMessage] | None = None
    message: UiMessage | None = None
    trigger: str | None = None
    message_id: str | None = None


class StopRequest(Struct, rename="camel"):
    """The body of a stop. With `activeStreamId`, only that turn is stopped."""

    active_stream_id: str | None = None


class SocketFrame(Struct, rename="camel"):
    """A frame of a client on a socket."""

    type: str
    request_id: RequestId
    id: str | None = None
    messages: list[UiMessage] | None = None
    message: UiMessage | None = None
    trigger: str | None = None
    message_id: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: UiOptions | None = None


class _Envelope(Struct, rename="camel"):
    """The id with which a frame that can't be used is answered."""

    request_id: RequestId


class _Probe(Struct):
    """The fields that tell the AI SDK's bodies from others."""

    messages: Raw | UnsetType = UNSET
    message: Raw | UnsetType = UNSET
    trigger: Raw | UnsetType = UNSET


_decode: Final = msgspec.json.Decoder(UiRequest, float_hook=float).decode
_decode_stop: Final = msgspec.json.Decoder(StopRequest, float_hook=float).decode
_decode_frame: Final = msgspec.json.Decoder(SocketFrame, float_hook=float).decode
_decode_envelope: Final = msgspec.json.Decoder(_Envelope, float_hook=float).decode
_probe: Final = msgspec.json.Decoder(_Probe, float_hook=float).decode


def is_ui_body(body: bytes, headers: Headers) -> bool:
    """Return whether a body at an address that other clients use too is one of the AI SDK."""
    if UI_HEADER in headers:
        return True
    try:
        found = _probe(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False
    return found.messages is not UNSET or found.trigger is not UNSET or bytes(found.message or b"")[:1] == b"{"


def request_of(body: bytes) -> UiRequest:
    """Return the request in a body. Raises `ApiError`."""
    return decode_request(_decode, body)


def stop_of(body: bytes) -> StopRequest:
    """Return the stop in a body, which may be empty. Raises `ApiError`."""
    return decode_request(_decode_stop, body or b"{}")


def frame_of(data: bytes) -> SocketFrame:
    """Return the frame of a client. Raises `ApiError`."""
    return decode_request(_decode_frame, data, is_frame=True)


def request_id_in(data: bytes) -> str | None:
    """Return the id of the request in a frame, or None if it can't be read."""
    try:
        return _decode_envelope(data).request_id
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        begun = _ENVELOPE.match(data)
        return None if begun is None else begun.group(1).decode()


def request_of_frame(frame: SocketFrame) -> UiRequest:
    """Return the request of a frame that sends messages."""
    options = {} if frame.body is None else structs.asdict(frame.body)
    names = ("id", "messages", "message", "trigger", "message_id")
    return UiRequest(**options, **{name: getattr(frame, name) for name in names})
