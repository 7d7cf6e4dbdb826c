"""The translation of one turn's events to the frames of a dialect's stream. No I/O.

A dialect derives its translator from `StreamTranslator` and overrides the methods for what it can say.
"""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import UNSET

from gateway.dialects.resets import Diverged, SentAnswer
from gateway.protocol.errors import ApiError, ErrorBody
from gateway.protocol.events import (
    Heartbeat,
    ServerEvent,
    TurnCancelled,
    TurnCompleted,
    TurnDelta,
    TurnDetached,
    TurnFailed,
    TurnPart,
    TurnReset,
    TurnStarted,
    TurnStatus,
)
from gateway.protocol.results import TurnView
from providers.base import Part, PartKind

SSE = "text/event-stream"
DIVERGED = ApiError(
    "upstream_incomplete", "The answer had to be started again, and its beginning differs. Send the request again."
).body


class StreamTranslator:
    """The translator of one stream. `ended` is true once the last frame has been encoded.

    `failure` is the error that ended the stream, or None. If nothing was sent before it, the client gets the error as
    the response's status and body instead of a stream.

    A method that has nothing to send returns empty bytes. If `is_cut` is true once the stream has ended, the connection
    must be broken off, so that the client resumes. If `sends_signatures` is false, `signature` isn't called. With `with_ids`,
    the id of the last frame of each event is the position after that event, as in our own streams.
    """

    media_type: ClassVar[str] = SSE
    sends_signatures: ClassVar[bool] = False

    def __init__(self, *, with_ids: bool = False) -> None:
        self.ended = False
        self.failure: ErrorBody | None = None
        self.is_cut = False
        self._sent = SentAnswer()
        self._with_ids = with_ids
        self._epoch = 0
        self._known: list[Part] | None = None
        self._outdated_until = 0

    def skip_until(self, seq: int) -> None:
        """Send nothing for the events up to `seq`. In an answer that is replayed, that is the number of its last reset."""
        self._outdated_until = seq

    @property
    def ending_bytes(self) -> int:
        """The approximate size of the last frames in bytes; 0 if they are always short."""
        return 0

    def encode(self, event: ServerEvent) -> bytes:
        """Return the bytes to send for an event."""
        if self._outdated_until and isinstance(event, TurnPart | TurnDelta | TurnReset):
            if event.seq <= self._outdated_until:
                self._epoch = event.epoch if isinstance(event, TurnReset) else self._epoch
                return b""
            self._outdated_until = 0
        try:
            frames = self._encode_delta(event) if type(event) is TurnDelta else self._encode_other(event)
        except Diverged:
            return self._fail(DIVERGED)
        return self._with_id(event, frames) if self._with_ids and frames else frames

    def resume(self, view: TurnView, epoch: int) -> None:
        """Begin in the middle of an answer, at a position in this epoch. `view` is the turn at that position or later."""
        self._epoch = epoch
        self._known = [] if view.message is UNSET else view.message.parts

    def stop(self, error: ApiError) -> bytes:
        """Return the bytes that end the stream because of `error`; the turn may continue."""
        return self._fail(error.body)

    def _encode_delta(self, event: TurnDelta) -> bytes:
        text, part, sent = event.text, event.part, self._sent
        if part >= len(sent.texts):
            self._catch_up(part + 1)
        if text:
            if sent.is_behind and not (text := sent.unsent_text(part, text)):
                return b""
            sent.texts[part].append(text)
            return self.text(part, text)
        if event.signature and self.sends_signatures:
            signature = sent.unsent_signature(part, event.signature) if sent.is_behind else event.signature
            if signature:
                sent.signatures[part].append(signature)
                return self.signature(part, signature)
        return b""

    def _catch_up(self, count: int) -> None:
        """Begin the parts that came before the position of a resumed stream, up to `count` parts, without sending them."""
        known, sent = self._known or [], self._sent
        while len(sent.texts) < count:
            n = len(sent.texts)
            if n >= len(known):
                raise Diverged
            begun = part_begun(known[n], n)
            sent.is_new(begun)
            self.part(begun)

    def _with_id(self, event: ServerEvent, frames: bytes) -> bytes:
        """Return the frames of an event with its position as the id of the last one."""
        seq = getattr(event, "seq", None)
        if seq is None:
            return frames
        start = frames.rfind(b"\n\ndata: ") + 2 if b"\n\n" in frames[:-2] else 0
        return b"%bid: %d-%d\n%b" % (frames[:start], self._epoch, seq, frames[start:])

    def _encode_other(self, event: ServerEvent) -> bytes:
        if isinstance(event, TurnPart):
            if event.part > len(self._sent.texts):
                self._catch_up(event.part)
            return self.part(event) if self._sent.is_new(event) else b""
        if isinstance(event, TurnStarted):
            self._epoch = event.epoch
            return self.started(event)
        if isinstance(event, TurnStatus):
            self._epoch = self._epoch if event.epoch is None else event.epoch
            return self.status(event)
        if isinstance(event, TurnReset):
            if self._known is not None:
                raise Diverged  # how much of the answer the client has isn't known
            self._epoch = event.epoch
            self._sent.reset()
            return b""
        if isinstance(event, TurnCompleted):
            self._sent.check_whole()
            self.ended = True
            return self.completed(event)
        if isinstance(event, TurnCancelled):
            self.ended = True
            return self.cancelled(event)
        if isinstance(event, TurnFailed):
            return self._fail(event.error, event)
        if isinstance(event, TurnDetached):
            return self._fail(ApiError("gone" if event.reason == "gone" else "rate_limited").body)
        return self.heartbeat() if isinstance(event, Heartbeat) else b""

    def _fail(self, error: ErrorBody, event: TurnFailed | None = None) -> bytes:
        self.ended = True
        self.failure = error
        return self.failed(error, event)

    # A dialect overrides these.

    def started(self, event: TurnStarted) -> bytes:
        """Return the frames for the turn's first event."""
        return b""

    def status(self, event: TurnStatus) -> bytes:
        """Return the frames for a change of the turn's status."""
        return b""

    def part(self, event: TurnPart) -> bytes:
        """Return the frames for a new part. Its number is the number of parts before it."""
        return b""

    def text(self, part: int, text: str) -> bytes:
        """Return the frames for more text of part number `part`; for a tool call, its arguments."""
        return b""

    def signature(self, part: int, signature: str) -> bytes:
        """Return the frames for a piece of the signature of part number `part`."""
        return b""

    def completed(self, event: TurnCompleted) -> bytes:
        """Return the last frames of a completed turn."""
        return b""

    def cancelled(self, event: TurnCancelled) -> bytes:
        """Return the last frames of a cancelled turn."""
        return b""

    def failed(self, error: ErrorBody, event: TurnFailed | None) -> bytes:
        """Return the last frames of a stream that ends with an error. `event`: the turn's ending, if it has failed."""
        return b""

    def heartbeat(self) -> bytes:
        """Return what is sent after a period without frames."""
        return b": heartbeat\n\n"


_BEGUN_FIELDS = ("call", "name", "url", "title", "media_type")


def part_begun(part: Part, n: int) -> TurnPart:
    """Return the event with which part number `n` of a message began."""
    kind: PartKind = part.__struct_config__.tag  # type: ignore[assignment]
    fields: dict[str, Any] = {name: getattr(part, name, None) for name in _BEGUN_FIELDS}
    return TurnPart(turn="", seq=0, part=n, kind=kind, **fields)
