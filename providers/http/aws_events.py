"""An incremental parser of Amazon's binary event stream. This module does no I/O. botocore decodes the frames.

A frame carries one event of Anthropic's Messages API, in base64, or a failure. Other frames are ignored.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Final
from zlib import crc32

from botocore.eventstream import (  # type: ignore[import-untyped]
    EventStreamBuffer,
    EventStreamMessage,
    ParserError,
)

from providers.http.sse import EVENT_BYTES_MAX, UNFRAMED, Event, InvalidEvent
from providers.http.transport_errors import ERROR_BODY_BYTES_MAX

PRELUDE_BYTES: Final = 12
HEADERS_BYTES_MAX: Final = 16 * 1024
FRAME_BYTES_MAX: Final = EVENT_BYTES_MAX * 3 // 2
"""The maximum size of a frame. Its event is in base64, which makes four bytes of three."""


class AwsEventParser:
    """The parser of one stream. See `stream.Parser`.

    botocore gets whole frames only, because it would copy an unfinished frame with every piece.
    """

    def __init__(self) -> None:
        self._frame = bytearray()
        """The unfinished frame."""
        self._size = 0
        """The size of the unfinished frame in bytes. 0 if its prelude isn't complete yet."""

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes. Raise `InvalidEvent` if the bytes aren't a valid frame."""
        events: list[Event] = []
        begin = 0
        while begin < len(chunk):
            end = begin + (self._size or PRELUDE_BYTES) - len(self._frame)
            self._frame += chunk[begin:end]
            begin = end
            if len(self._frame) < (self._size or PRELUDE_BYTES):
                break
            if not self._size:
                self._size = _frame_bytes(self._frame)
                continue
            if (event := _decode_frame(bytes(self._frame))) is not None:
                events.append(event)
            self._frame.clear()
            self._size = 0
        return events

    def close(self) -> list[Event]:
        """Return no events, because an unfinished frame isn't an event."""
        return []


def _frame_bytes(prelude: bytearray) -> int:
    """Return the size in bytes of the frame with this prelude. Raise `InvalidEvent` if the prelude is invalid."""
    size, headers, checksum = struct.unpack("!III", prelude)
    if crc32(prelude[:8]) != checksum:
        raise InvalidEvent("the checksum of a frame's prelude is wrong")
    if headers > HEADERS_BYTES_MAX or not PRELUDE_BYTES < size <= FRAME_BYTES_MAX:
        raise InvalidEvent(f"invalid frame of {size} bytes with {headers} bytes of headers")
    return int(size)


def _decode_frame(frame: bytes) -> Event | None:
    buffer = EventStreamBuffer()
    buffer.add_data(frame)
    try:
        return _convert_event(next(buffer))
    except (ParserError, ValueError, LookupError, TypeError, struct.error, RecursionError, StopIteration) as error:
        raise InvalidEvent(f"{type(error).__name__}: {error}") from error


def _convert_event(message: EventStreamMessage) -> Event | None:
    headers: dict[str, object] = message.headers
    kind = headers.get(":message-type", "event")
    if kind != "event":
        # An exception has its type in the headers and its message in the payload. An error has both in the headers.
        name = headers.get(":exception-type") or headers.get(":error-code") or kind
        text = headers.get(":error-message") or _error_message(message.payload[:ERROR_BODY_BYTES_MAX])
        return UNFRAMED, json.dumps({"error": {"type": name, "message": text}}).encode()
    if headers.get(":event-type") != "chunk":
        return None
    return None, base64.b64decode(json.loads(message.payload)["bytes"])


def _error_message(payload: bytes) -> str:
    try:
        body = json.loads(payload)
    except ValueError:
        return payload.decode("utf-8", "replace")
    return str(body.get("message") or body.get("Message") or "") if isinstance(body, dict) else str(body)
