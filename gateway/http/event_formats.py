"""Frames as HTTP streams write them: server-sent events, or one JSON line each. Pure.

A frame is encoded once as JSON, for sockets and streams alike; what is added here is read off that JSON.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
from msgspec import Struct

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
LAST = frozenset({"turn.completed", "turn.cancelled", "turn.failed", "turn.detached"})


class _Head(Struct):
    """What a stream has to know of a frame."""

    type: str
    seq: int | None = None
    epoch: int | None = None
    reconnect_after_ms: int | None = None


_read_head = msgspec.json.Decoder(_Head, float_hook=float).decode


class EventFormat(Protocol):
    """How one stream writes its frames. `ended`: the turn's last frame was written."""

    media_type: str
    ended: bool

    def write(self, frame: bytes) -> bytes:
        """The bytes of one frame, which is JSON."""


class ServerSentEvents:
    """`id` is the position behind the frame, so that `Last-Event-ID` resumes it; what has no number is a comment."""

    media_type = SSE

    def __init__(self, epoch: int) -> None:
        self.ended = False
        self._epoch = epoch

    def write(self, frame: bytes) -> bytes:
        """See `EventFormat`."""
        head = _read_head(frame)
        self.ended = head.type in LAST
        if head.seq is None:
            wait = b"" if head.reconnect_after_ms is None else b"retry: %d\n" % head.reconnect_after_ms
            return b"%b: %b\n\n" % (wait, frame)
        if head.epoch is not None:
            self._epoch = head.epoch
        return b"event: %b\nid: %d-%d\ndata: %b\n\n" % (head.type.encode(), self._epoch, head.seq, frame)


class JsonLines:
    """One frame, one line."""

    media_type = NDJSON

    def __init__(self, epoch: int) -> None:
        self.ended = False

    def write(self, frame: bytes) -> bytes:
        """See `EventFormat`."""
        self.ended = _read_head(frame).type in LAST
        return frame + b"\n"


FORMATS: dict[str, type[ServerSentEvents | JsonLines]] = {SSE: ServerSentEvents, NDJSON: JsonLines}
