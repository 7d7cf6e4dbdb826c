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


def unstored(live_turn: LiveTurn, *more: TurnEvent) -> Append:
    """What the store's log doesn't have yet of an owned turn, as one append; `more` is to follow it."""
    return _append(live_turn, [*live_turn.log.events[live_turn.stored :], *more])


def next_append(live_turn: LiveTurn) -> Append:
    """The next of it, cut to about `APPEND_BYTES_MAX`."""
    append = unstored(live_turn)
    if len(append.payload) <= APPEND_BYTES_MAX:
        return append
    count = max(1, (append.last - live_turn.stored) * APPEND_BYTES_MAX // len(append.payload))
    return _append(live_turn, live_turn.log.events[live_turn.stored : live_turn.stored + count])


def _append(live_turn: LiveTurn, events: list[TurnEvent]) -> Append:
    first, last = live_turn.stored + 1, live_turn.stored + len(events)
    payload = encode_events(events)
    if live_turn.cursor is not None and first <= live_turn.cursor_seq <= last:
        payload = _encode([live_turn.cursor, *events])
    return Append(live_turn.user, live_turn.turn, live_turn.epoch, first, last, payload)
