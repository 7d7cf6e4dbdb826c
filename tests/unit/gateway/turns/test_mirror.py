"""A mirror applies only entries that continue its log, and a stored log is read as a whole."""

from __future__ import annotations

import pytest

from gateway.protocol.events import TurnEvent
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_entries import encode_events
from gateway.turns.mirror import apply_entry, read_log
from store.records import Append, LogEntry
from tests.in_process import open_store
from tests.stored import running, stateless_turn
from tests.turn_events import EPOCH, completed, delta, part, started

EVENTS: list[TurnEvent] = [started(), part(2), delta(3, "a"), delta(4, "b"), completed(5)]


def entry(first: int, last: int, epoch: int = EPOCH) -> LogEntry:
    """Return the events from `first` to `last` as one entry."""
    return LogEntry(epoch, first, last, encode_events(EVENTS[first - 1 : last]))


def _append(one: LogEntry) -> Append:
    return Append("ann", "t1", one.epoch, one.first, one.last, one.payload)


@pytest.mark.parametrize(
    ("log_entry", "fits", "end"),
    [
        (entry(4, 5), True, 5),
        (entry(2, 4), True, 4),
        (entry(1, 2), True, 3),
        (entry(5, 5), False, 3),
        (entry(3, 4, EPOCH + 1), False, 3),
        (entry(3, 4, EPOCH - 1), True, 3),
        (entry(4, 4, EPOCH + 1), True, 4),
    ],
    ids=[
        "continues",
        "overlaps",
        "already applied",
        "leaves a gap",
        "rewrites the past",
        "overlaps in an older epoch",
        "a new epoch",
    ],
)
async def test_an_entry_continues_a_mirror_or_is_refused(log_entry: LogEntry, fits: bool, end: int) -> None:
    """Law 7: each event is applied once and in order. An entry that doesn't fit changes nothing and returns False."""
    stream = LiveTurn("ann", "t1", b"", EPOCH)
    stream.publish(EVENTS[:3])
    assert apply_entry(stream, log_entry) is fits
    assert stream.log.end == end
    assert stream.log.events == EVENTS[:end]


async def test_a_whole_log_is_read_with_its_epochs() -> None:
    """A stored log of two owners is read with all of its events, their epochs, and the resulting state."""
    async with open_store() as store:
        turn = await running(store.as_store, stateless_turn(epoch=EPOCH))
        await store.append([_append(entry(1, 3))])
        taken = await store.claim("ann", "t1", "two", EPOCH + 7, 1000, force=True)
        await store.append([_append(entry(4, 4, taken.epoch))])
        whole, state = await read_log(store.as_store, LiveTurn("ann", "t1", b"", turn.epoch))
        assert whole.events == EVENTS[:4]
        assert [whole.epoch_of(seq) for seq in (3, 4)] == [EPOCH, EPOCH + 7]
        assert (state, whole.is_ended) == ("streaming", False)
