"""Events as the store's log keeps them: several in one payload, each with its border.

With the event at which it came, the log also keeps the provider's cursor. It is no event: it has no number, and no
client sees it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import msgspec

from gateway.protocol.events import TurnEvent, TurnReset
from gateway.turns.live_turn import LiveTurn
from providers.base import ResponseHandle
from store.records import Append, LogEntry

APPEND_BYTES_MAX = 256 * 1024

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[TurnEvent | ResponseHandle]).decode


def encode_events(events: list[TurnEvent]) -> bytes:
    """Events as one payload."""
    return _encode(events)


def decode_events(payload: bytes) -> list[TurnEvent]:
    """The events of a payload. Raises `msgspec.DecodeError`."""
    logged = _decode(payload)
    return cast(list[TurnEvent], logged[1:] if logged and type(logged[0]) is ResponseHandle else logged)


def cursor_of(entries: Iterable[LogEntry]) -> ResponseHandle | None:
    """By what the provider's answer can be heard again, after a whole log. Raises `msgspec.DecodeError`."""
    cursor = None
    for entry in entries:
        for logged in _decode(entry.payload):
            if isinstance(logged, ResponseHandle):
                cursor = logged
            elif isinstance(logged, TurnReset):
                cursor = None
    return cursor


def unstored(stream: LiveTurn, *more: TurnEvent) -> Append:
    """What the store's log doesn't have yet of an owned turn, as one append; `more` is to follow it."""
    return _append(stream, [*stream.log.events[stream.stored :], *more])


def next_append(stream: LiveTurn) -> Append:
    """The next of it, cut to about `APPEND_BYTES_MAX`."""
    append = unstored(stream)
    if len(append.payload) <= APPEND_BYTES_MAX:
        return append
    count = max(1, (append.last - stream.stored) * APPEND_BYTES_MAX // len(append.payload))
    return _append(stream, stream.log.events[stream.stored : stream.stored + count])


def _append(stream: LiveTurn, events: list[TurnEvent]) -> Append:
    first, last = stream.stored + 1, stream.stored + len(events)
    payload = encode_events(events)
    if stream.cursor is not None and first <= stream.cursor_seq <= last:
        payload = _encode([stream.cursor, *events])
    return Append(stream.user, stream.turn, stream.epoch, first, last, payload)
