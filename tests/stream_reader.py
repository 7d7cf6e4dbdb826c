"""A live turn without a runner, and a reader of its events without a socket."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.protocol.codec import JSON, Codec
from gateway.streams.outbox import Outbox
from gateway.turns.abort import Abort
from gateway.turns.live_turn import LiveTurn
from tests.client import TurnView
from tests.turn_events import EPOCH, delta, part, started


def stream_of(
    turn: str = "t", *, user: str = "ann", conversation: str | None = None, grace_s: float | None = None
) -> LiveTurn:
    """Return a new live turn. With `grace_s` it is aborted after it has had no attachment for that time."""
    stream = LiveTurn(user, turn, b"digest", EPOCH, conversation)
    if grace_s is not None:
        stream.set_disconnect_callback(grace_s, lambda stream: stream.signal.abort(Abort("disconnect")))
    return stream


class Reader:
    """An outbox and the events of one turn that its client has received. Checks laws 1 and 2 on each of them."""

    def __init__(self, codec: Codec = JSON, bytes_max: int = 10**7) -> None:
        self.view = TurnView()
        self.frames: list[dict[str, Any]] = []
        self.codec = codec
        self.outbox = Outbox(codec, bytes_max, lambda: None, lambda: None)

    def take(self, count: int = 10**6) -> None:
        """Read at most `count` frames."""
        for _ in range(count):
            payload = self.outbox.next_frame()
            if payload is None:
                return
            frame = msgspec.msgpack.decode(payload) if self.codec.binary else msgspec.json.decode(payload)
            self.frames.append(frame)
            if frame["type"] not in {"heartbeat"}:
                self.view.apply(frame)

    def at(self, epoch: int, seq: int) -> Reader:
        """Set the position and return the reader."""
        self.view.epoch, self.view.seq = epoch, seq
        return self


def publish_text(stream: LiveTurn, *texts: str) -> None:
    """Publish a delta per text, as the model's output."""
    for text in texts:
        stream.publish([delta(stream.log.end + 1, text, turn=stream.turn)])


def begin(stream: LiveTurn) -> None:
    """Publish the start of the turn and one part."""
    stream.publish([started(stream.turn), part(2, turn=stream.turn)])
