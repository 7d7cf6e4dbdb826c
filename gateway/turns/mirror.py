"""Apply the stored log of a turn to its mirror, entry by entry or as a whole."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from gateway.streams.log import TurnLog
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_entries import decode_events
from gateway.turns.state import ENDED, IllegalTransition, State, step
from store.api import TurnStore
from store.records import LogEntry

UNREADABLE = (msgspec.DecodeError, IllegalTransition)
"""The exceptions that a damaged log raises. Nothing after the damage can be read."""


def apply_entry(live_turn: LiveTurn, entry: LogEntry) -> bool:
    """Append an entry of the log to the mirror. Return False if it doesn't continue the mirror.

    An entry doesn't continue the mirror if it leaves a gap, or if its epoch is newer than that of the mirror's events
    with the same seqs. If its epoch is older than theirs, ignore it and return True. Raises an exception of
    `UNREADABLE` if the entry is damaged.
    """
    end = live_turn.log.end
    if entry.first > end + 1:
        return False
    if entry.epoch != live_turn.log.epoch_of(min(entry.first, end)) and entry.first <= end:
        return entry.epoch < live_turn.log.epoch_of(entry.first)
    if entry.last > end:
        live_turn.begin_epoch(entry.epoch)
        live_turn.publish(decode_events(entry.payload)[end + 1 - entry.first :])
    return True


async def read_log(store: TurnStore, live_turn: LiveTurn) -> tuple[TurnLog, State]:
    """Return the turn's log as it is stored, up to its first gap or damage, and the state of the turn there.

    Raises `StoreError`.
    """
    turn_log = TurnLog(live_turn.turn, live_turn.epoch)
    state: State = "accepting"
    with suppress(*UNREADABLE):
        while entries := await store.log(live_turn.user, live_turn.turn, turn_log.end):
            before = turn_log.end
            for entry in entries:
                if entry.first != turn_log.end + 1:
                    continue
                turn_log.begin_epoch(entry.epoch)
                for event in decode_events(entry.payload):
                    state = step(state, event)
                    turn_log.events.append(event)
            if turn_log.end == before:
                break
    turn_log.is_ended = state in ENDED
    return turn_log, state
