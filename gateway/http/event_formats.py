"""The formats of HTTP streams: server-sent events, or one JSON line per frame. This module does no I/O.

A frame is encoded as JSON once, for sockets and streams alike. The fields that a format adds are read from that JSON.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
from msgspec import Struct

from gateway.protocol.errors import ApiError

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
FINAL_TYPES = frozenset({"turn.completed", "turn.cancelled", "turn.failed", "turn.detached"})


class _FrameHead(Struct):
    """The fields of a frame that a stream needs."""

    type: str
    seq: int | None = None
    epoch: int | None = None
    reconnect_after_ms: int | None = None


_decode_head = msgspec.json.Decoder(_FrameHead, float_hook=float).decode


class EventFormat(Protocol):
    """The format of one stream. `ended` is true once the stream's last frame has been encoded."""

    media_type: str
    ended: bool

    def encode(self, frame: bytes) -> bytes:
        """Return the bytes to send for `frame`, which is JSON."""

    def stop(self, error: ApiError) -> bytes:
        """Return the bytes that end a stream that stops before the turn's ending."""


class ServerSentEvents:
    """Server-sent events. A frame without a seq is written as a comment.

    `id` is the position after the frame, so that a client resumes there with `Last-Event-ID`. `epoch` is the epoch of
    the first frames, until a frame names another.
    """

    media_type = SSE

    def __init__(self, epoch: int) -> None:
        self.ended = False
        self._epoch = epoch

    def encode(self, frame: bytes) -> bytes:
        """See `EventFormat`."""
        head = _decode_head(frame)
        self.ended = head.type in FINAL_TYPES
        if head.seq is None:
            wait = b"" if head.reconnect_after_ms is None else b"retry: %d\n" % head.reconnect_after_ms
            return b"%b: %b\n\n" % (wait, frame)
        if head.epoch is not None:
            self._epoch = head.epoch
        return b"event: %b\nid: %d-%d\ndata: %b\n\n" % (head.type.encode(), self._epoch, head.seq, frame)

    def stop(self, error: ApiError) -> bytes:
        """See `EventFormat`. The client resumes, so nothing is sent."""
        return b""


class JsonLines:
    """Newline-delimited JSON: one frame per line."""

    media_type = NDJSON

    def __init__(self, epoch: int) -> None:
        self.ended = False

    def encode(self, frame: bytes) -> bytes:
        """See `EventFormat`."""
        self.ended = _decode_head(frame).type in FINAL_TYPES
        return frame + b"\n"

    def stop(self, error: ApiError) -> bytes:
        """See `EventFormat`. The client resumes, so nothing is sent."""
        return b""


FORMATS: dict[str, type[ServerSentEvents | JsonLines]] = {SSE: ServerSentEvents, NDJSON: JsonLines}
