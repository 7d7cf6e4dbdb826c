"""Amazon's binary event stream out of bytes, as they come; botocore knows the frames. No I/O.

Each frame carries one event of Anthropic's Messages, in base64, or an exception.
"""

from __future__ import annotations

import base64
import json

from botocore.eventstream import (  # type: ignore[import-untyped]
    EventStreamBuffer,
    EventStreamMessage,
    ParserError,
)

from providers.sse import BARE, Event
from providers.stream import Unreadable


class AwsEventParser:
    """One stream. See `stream.Parser`."""

    def __init__(self) -> None:
        self._buffer = EventStreamBuffer()

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that this chunk completes. Raises `Unreadable` for what is no frame."""
        self._buffer.add_data(chunk)
        try:
            return [event for message in self._buffer if (event := _event(message)) is not None]
        except (ParserError, ValueError) as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from error

    def close(self) -> list[Event]:
        """Nothing: half a frame is no event."""
        return []


def _event(message: EventStreamMessage) -> Event | None:
    headers: dict[str, object] = message.headers
    kind = headers.get(":message-type", "event")
    if kind != "event":
        # Of an exception its type is in the headers and its words are in the payload; an error has both in the headers.
        name = headers.get(":exception-type") or headers.get(":error-code") or kind
        said = headers.get(":error-message") or _said(message.payload)
        return BARE, json.dumps({"error": {"type": name, "message": said}}).encode()
    if headers.get(":event-type") != "chunk":
        return None
    return None, base64.b64decode(json.loads(message.payload)["bytes"])


def _said(payload: bytes) -> str:
    try:
        body = json.loads(payload)
    except ValueError:
        return payload.decode("utf-8", "replace")
    return str(body.get("message") or body.get("Message") or "") if isinstance(body, dict) else str(body)
