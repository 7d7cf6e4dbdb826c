"""Events as the store's log keeps them: several in one payload, each with its border."""

from __future__ import annotations

import msgspec

from gateway.events import TurnEvent
from gateway.turn_stream import TurnStream
from store.base import Append

APPEND_BYTES_MAX = 256 * 1024

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[TurnEvent]).decode


def encode_events(events: list[TurnEvent]) -> bytes:
    """Events as one payload."""
    return _encode(events)


def decode_events(payload: bytes) -> list[TurnEvent]:
    """The events of a payload. Raises `msgspec.DecodeError`."""
    return _decode(payload)


def unstored(stream: TurnStream, *more: TurnEvent) -> Append:
    """What the store's log doesn't have yet of an owned turn, as one append; `more` is to follow it."""
    events = [*stream.log.events[stream.stored :], *more]
    return Append(
        stream.user,
        stream.turn,
        stream.epoch,
        stream.stored + 1,
        stream.stored + len(events),
        encode_events(events),
    )


def next_append(stream: TurnStream) -> Append:
    """The next of it, cut to about `APPEND_BYTES_MAX`."""
    append = unstored(stream)
    if len(append.payload) <= APPEND_BYTES_MAX:
        return append
    count = max(1, (append.last - stream.stored) * APPEND_BYTES_MAX // len(append.payload))
    events = stream.log.events[stream.stored : stream.stored + count]
    return Append(
        stream.user, stream.turn, stream.epoch, stream.stored + 1, stream.stored + count, encode_events(events)
    )
