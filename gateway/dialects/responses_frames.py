"""The frames of a stream of OpenAI Responses: events with their numbers, as server-sent events or as lines for a socket.

The number of an event depends only on the answer. Each event has one number. Only a text delta has as many as it has
characters, and shows the last one. So a client can resume after any event, however the text was divided into deltas.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.dialects.base import encode_json
from gateway.dialects.openai_errors import error_object
from gateway.dialects.responses_object import Object
from gateway.protocol.errors import ErrorBody

DONE: Final = b"data: [DONE]\n\n"

encode_text = msgspec.json.Encoder().encode


class ResponsesFrames:
    """The frames of one stream. Events up to the number `after` are empty.

    On a socket, each event is a line of JSON, with the `lane` if there is one. `last` follows the last event.
    """

    def __init__(self, *, after: int, on_socket: bool, lane: str | None) -> None:
        self.last = b"" if on_socket else DONE
        self._after = after
        self._on_socket = on_socket
        self._lane = b"" if lane is None else b'"stream_id":%b,' % encode_text(lane)
        self._next = 0

    def frame(self, kind: str, fields: Object) -> bytes:
        """Return the next event."""
        number = self._next
        self._next += 1
        return b"" if number <= self._after else self._encode(kind, number, fields)

    def error(self, error: ErrorBody) -> bytes:
        """Return the event for an error that isn't the end of the response. It has the number of the event before it."""
        found = error_object(error)
        fields = {name: found[name] for name in ("code", "message", "param")}
        return self._encode("error", max(self._next - 1, 0), {**fields, "error": found}) + self.last

    def delta_head(self, kind: str, fields: Object) -> tuple[bytes, bytes]:
        """Return what is before and after the number of a delta, up to its text."""
        return self._head(kind), b',%b,"delta":' % encode_json(fields)[1:-1]

    def delta(self, head: tuple[bytes, bytes], text: str) -> bytes:
        """Return the next event, a delta that begins with `head`."""
        first = self._next
        self._next = first + len(text)
        if first <= self._after:
            text = text[self._after - first + 1 :]
            if not text:
                return b""
        before, after = head
        end = b"}\n" if self._on_socket else b"}\n\n"
        return b"%b%d%b%b%b" % (before, self._next - 1, after, encode_text(text), end)

    def _encode(self, kind: str, number: int, fields: Object) -> bytes:
        end = b"\n" if self._on_socket else b"\n\n"
        return b"%b%d,%b%b" % (self._head(kind), number, encode_json(fields)[1:], end)

    def _head(self, kind: str) -> bytes:
        """Return an event of this type up to its number."""
        name = kind.encode()
        body = b'{"type":"%b",%b"sequence_number":' % (name, self._lane)
        return body if self._on_socket else b"event: %b\ndata: %b" % (name, body)
