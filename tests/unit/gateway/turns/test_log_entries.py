"""Log entries: several events as one payload."""

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
def test_decoded_events_equal_the_encoded_ones(pieces: list[tuple[int, bool, str]]) -> None:
    """Law 7: another instance reads the owner's events unchanged."""
    events = answer(pieces)
    assert decode_events(encode_events(events)) == events


def test_every_kind_of_event_is_encoded_and_decoded() -> None:
    """Every event that can be logged is decoded without a loss."""
    events = list(one_of_each().values())
    assert decode_events(encode_events(events)) == events


def test_an_invalid_payload_is_refused() -> None:
    """A payload of another kind raises `msgspec.DecodeError`, as `decode_events` documents."""
    with pytest.raises(msgspec.DecodeError):
        decode_events(b"\x93\x01\x02")


async def test_an_append_has_the_events_that_the_store_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """`unstored` has all events after the stored seq, and the given ending. `next_append` has as many of them as fit, but
    at least one."""
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
    """Return the log entry that an append writes."""
    return LogEntry(append.epoch, append.first, append.last, append.payload)


async def test_the_response_handle_is_logged_with_its_event() -> None:
    """Law 9: an append with the handle's event has the handle, even when it is written again. Readers of events don't
    see it, and after a reset there is none."""
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
    stream.publish([part(6), delta(7)])
    stream.response_handle, stream.response_handle_seq = ResponseHandle("gpt", "resp_2"), 6
    after_a_reset = unstored(stream)
    assert latest_handle([logged(whole), logged(after_a_reset)]) == stream.response_handle
    assert decode_events(after_a_reset.payload) == stream.log.events[3:]
