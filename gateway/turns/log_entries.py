"""The encoding of events in the store's log: a payload is a MessagePack array of events.

The log also stores the provider's response handle, in the payload of the first event after its arrival. The handle
isn't an event: it has no seq and isn't sent to clients.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.protocol.events import TurnEvent, TurnReset
from gateway.protocol.part_data import DATA_PIECE_CHARS, PartData
from gateway.turns.live_turn import LiveTurn
from providers.base import ResponseHandle
from store.records import Append, LogEntry

APPEND_BYTES_MAX = 256 * 1024

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[TurnEvent | PartData | ResponseHandle]).decode


def encode_events(events: list[TurnEvent]) -> bytes:
    """Encode events as one payload."""
    return _encode(events)


def decode_events(payload: bytes) -> list[TurnEvent]:
    """Decode the events of a payload, without a response handle. Raises `msgspec.DecodeError`."""
    return [item for item in _decode(payload) if not isinstance(item, ResponseHandle)]


def latest_handle(entries: Iterable[LogEntry]) -> ResponseHandle | None:
    """Return the handle for resuming the provider's response, or None. Raises `msgspec.DecodeError`.

    `entries`: the turn's whole log. A `turn.reset` discards the handles before it.
    """
    handle = None
    for entry in entries:
        for item in _decode(entry.payload):
            if isinstance(item, ResponseHandle):
                handle = item
            elif isinstance(item, TurnReset):
                handle = None
    return handle


def unstored(live_turn: LiveTurn, *more: TurnEvent) -> Append:
    """Return one append with an owned turn's events that the store's log doesn't have yet, followed by `more`."""
    return _append(live_turn, [*live_turn.log.events[live_turn.stored_seq :], *more])


def next_append(live_turn: LiveTurn) -> Append:
    """Return the next append of an owned turn's unstored events, cut to about `APPEND_BYTES_MAX`."""
    events = live_turn.log.events[live_turn.stored_seq :]
    may_be_long = len(events) * DATA_PIECE_CHARS > APPEND_BYTES_MAX
    append = _append(live_turn, _cut_data(events) if may_be_long else events)
    if len(append.payload) <= APPEND_BYTES_MAX:
        return append
    count = max(1, (append.last - live_turn.stored_seq) * APPEND_BYTES_MAX // len(append.payload))
    return _append(live_turn, live_turn.log.events[live_turn.stored_seq : live_turn.stored_seq + count])


def _cut_data(events: list[TurnEvent]) -> list[TurnEvent]:
    """Return `events`, cut off where their data exceeds `APPEND_BYTES_MAX`, so that no more than that is encoded."""
    size = 0
    for count, event in enumerate(events):
        if type(event) is PartData:
            size += len(event.data)
            if size > APPEND_BYTES_MAX:
                return events[: max(1, count)]
    return events


def _append(live_turn: LiveTurn, events: list[TurnEvent]) -> Append:
    first, last = live_turn.stored_seq + 1, live_turn.stored_seq + len(events)
    items: list[TurnEvent] | list[TurnEvent | ResponseHandle] = events
    if live_turn.response_handle is not None and first <= live_turn.response_handle_seq <= last:
        # The handle is directly before its event: it has to follow an earlier `turn.reset`, which discards handles.
        index = live_turn.response_handle_seq - first
        items = [*events[:index], live_turn.response_handle, *events[index:]]
    return Append(live_turn.user, live_turn.turn, live_turn.log.epoch, first, last, _encode(items))
