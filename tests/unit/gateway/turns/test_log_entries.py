"""Log entries: events with their borders, as one payload."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given

from gateway.protocol.events import TurnReset
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_entries import decode_events, encode_events, latest_handle, next_append, unstored
from providers.base import ResponseHandle
from store.records import Append, LogEntry
from tests.turn_events import EPOCH, PIECES, answer, completed, delta, one_of_each, part, started


@given(PIECES)
def test_events_come_back_as_they_were(pieces: list[tuple[int, bool, str]]) -> None:
    """Law 7: what another instance reads is what the owner said, event by event."""
    events = answer(pieces)
    assert decode_events(encode_events(events)) == events


def test_every_kind_of_event_comes_back() -> None:
    """Nothing that can be logged is lost on the way."""
    events = list(one_of_each().values())
    assert decode_events(encode_events(events)) == events


def test_what_is_no_entry_is_refused() -> None:
    """A payload of another kind raises what `decode_events` says."""
    with pytest.raises(msgspec.DecodeError):
        decode_events(b"\x93\x01\x02")


async def test_an_append_holds_what_the_store_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """From behind what is stored to the end, with an ending behind it; or the first piece of that."""
    stream = LiveTurn("ann", "t", b"", EPOCH)
    stream.publish([started(), part(2), *[delta(n, "x" * 100) for n in range(3, 13)]])
    stream.stored_seq = 4
    whole = unstored(stream)
    assert (whole.first, whole.last, whole.epoch, whole.user, whole.turn) == (5, 12, EPOCH, "ann", "t")
    ended = unstored(stream, completed(13))
    assert (ended.first, ended.last) == (5, 13)
    assert [event.seq for event in decode_events(ended.payload)] == list(range(5, 14))
    assert next_append(stream) == whole
    for bytes_max in (10, 300, 600):
        monkeypatch.setattr("gateway.turns.log_entries.APPEND_BYTES_MAX", bytes_max)
        piece = next_append(stream)
        assert piece.first == 5
        assert 5 <= piece.last < 12
        assert [event.seq for event in decode_events(piece.payload)] == list(range(5, piece.last + 1))
        assert len(piece.payload) <= max(bytes_max, 200)


def logged(append: Append) -> LogEntry:
    """What an append writes."""
    return LogEntry(append.epoch, append.first, append.last, append.payload)


async def test_the_cursor_is_logged_with_its_event() -> None:
    """Law 9: the append that holds the cursor's event holds the cursor, also when it is written again; no reader of
    events sees it, and an answer that starts again has it no more."""
    stream = LiveTurn("ann", "t", b"", EPOCH)
    stream.publish([started(), part(2), delta(3), delta(4)])
    stream.response_handle, stream.response_handle_seq = ResponseHandle("gpt", "resp_1"), 3
    whole = unstored(stream)
    assert (whole.first, whole.last) == (1, 4)
    assert decode_events(whole.payload) == stream.log.events
    assert latest_handle([logged(whole)]) == stream.response_handle
    stream.stored_seq = 2
    assert latest_handle([logged(unstored(stream))]) == stream.response_handle
    stream.stored_seq = 3
    assert latest_handle([logged(unstored(stream))]) is None
    stream.publish([TurnReset("t", 5, EPOCH, "again")])
    assert latest_handle([logged(whole), logged(unstored(stream))]) is None
