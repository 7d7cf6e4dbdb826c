"""Frames made of a turn's events: contiguous, exact, small, and encoded once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.codec import CODECS, JSON, MSGPACK, Codec
from gateway.protocol.events import TurnDelta, TurnEvent, TurnStatus
from gateway.protocol.requests import FRAME_BYTES_OUT_MAX, PIECE_BYTES_MAX
from gateway.protocol.text_size import encoded_size
from gateway.streams.log import TurnLog, event_size
from tests.turn_events import EPOCH, PIECES, answer, completed, delta, part, started

LONG_TURN = "t" * 64


def decoded(codec: Codec, payload: bytes) -> dict[str, Any]:
    frame: dict[str, Any] = msgspec.msgpack.decode(payload) if codec.binary else msgspec.json.decode(payload)
    return frame


def read(log: TurnLog, codec: Codec, position: int) -> tuple[list[dict[str, Any]], int]:
    """Return all frames from `position` on, and the position after them."""
    frames = []
    while position < log.end:
        payload, position = log.frame_after(position, codec)
        frames.append(decoded(codec, payload))
    return frames, position


def filled(*events: TurnEvent, turn: str = "t") -> TurnLog:
    log = TurnLog(turn, EPOCH)
    log.events.extend(events)
    return log


def check_contiguous(frames: list[dict[str, Any]], position: int) -> None:
    for frame in frames:
        assert frame.get("after", frame["seq"] - 1) == position
        assert frame["seq"] > position
        position = frame["seq"]


def added_by_events(events: list[TurnEvent]) -> list[tuple[int, str, str]]:
    """Return what each delta adds: part, field and text. Neighbors of one part and field are joined."""
    added: list[tuple[int, str, str]] = []
    for event in events:
        if isinstance(event, TurnDelta):
            field, content = ("text", event.text) if event.text is not None else ("signature", event.signature)
            if added and added[-1][:2] == (event.part, field):
                added[-1] = (event.part, field, added[-1][2] + (content or ""))
            else:
                added.append((event.part, field, content or ""))
        else:
            added.append((-1, event_name(event), ""))
    return added


def event_name(event: TurnEvent) -> str:
    return str(type(event).__struct_config__.tag)


def added_by_frames(frames: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
    """Return what each frame adds, in the form of `added_by_events`. One frame has one field of one part (law 1)."""
    added: list[tuple[int, str, str]] = []
    for frame in frames:
        if frame["type"] != "turn.delta":
            added.append((-1, frame["type"], ""))
            continue
        (field,) = {"text", "signature"} & set(frame)
        if added and added[-1][:2] == (frame["part"], field):
            added[-1] = (frame["part"], field, added[-1][2] + frame[field])
        else:
            added.append((frame["part"], field, frame[field]))
    return added


@given(PIECES, st.data())
def test_a_reader_of_any_speed_gets_contiguous_frames(pieces: list[tuple[int, bool, str]], data: st.DataObject) -> None:
    """Laws 1 and 10: at any reading speed, frames are contiguous and small, have one part and field, and lose
    nothing."""
    events = answer(pieces, LONG_TURN)
    log = TurnLog(LONG_TURN, EPOCH)
    frames: dict[str, list[dict[str, Any]]] = {codec.name: [] for codec in CODECS}
    positions = {codec.name: 0 for codec in CODECS}
    while log.end < len(events):
        step = data.draw(st.integers(1, 8))
        log.events.extend(events[log.end : log.end + step])
        for codec in CODECS:
            for _ in range(data.draw(st.integers(0, 4))):
                if positions[codec.name] < log.end:
                    payload, positions[codec.name] = log.frame_after(positions[codec.name], codec)
                    frames[codec.name].append(decoded(codec, payload))
    for codec in CODECS:
        rest, end = read(log, codec, positions[codec.name])
        all_frames = frames[codec.name] + rest
        assert end == len(events)
        check_contiguous(all_frames, 0)
        assert added_by_frames(all_frames) == added_by_events(events)
        for frame in all_frames:
            assert max(len(JSON.encode(frame)), len(MSGPACK.encode(frame))) <= FRAME_BYTES_OUT_MAX


@given(PIECES, st.integers(0, 40))
def test_a_replay_from_any_position_is_complete(pieces: list[tuple[int, bool, str]], start: int) -> None:
    """Law 7: a replay has everything after its position, merged, however the log was read before."""
    events = answer(pieces)
    log = filled(*events)
    start = min(start, log.end)
    read(log, JSON, 0)
    for codec in CODECS:
        frames, _ = read(log, codec, start)
        check_contiguous(frames, start)
        assert added_by_frames(frames) == added_by_events(events[start:])


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_neighboring_deltas_become_one_frame_with_after(codec: Codec) -> None:
    """Law 1: a frame of several events has `after`, the seq that it follows. A frame of one event has none."""
    log = filled(started(), part(2), delta(3, "Hel"), delta(4, "lo, "), delta(5, "you"), completed(6))
    frames, _ = read(log, codec, 2)
    assert frames[0] == {
        "type": "turn.delta",
        "turn": "t",
        "seq": 5,
        "after": 2,
        "part": 0,
        "text": "Hello, you",
    }
    single, _ = read(log, codec, 4)
    assert single[0] == {"type": "turn.delta", "turn": "t", "seq": 5, "part": 0, "text": "you"}


def test_merging_never_crosses_a_part_a_field_or_another_event() -> None:
    """Law 1: a new part, a signature, or a status between two deltas ends a frame."""
    log = filled(
        started(),
        part(2),
        delta(3, "a"),
        TurnDelta("t", 4, 0, signature="s"),
        TurnDelta("t", 5, 0, signature="S"),
        delta(6, "b"),
        part(7, 1),
        delta(8, "c", 1),
        delta(9, "d"),
        TurnStatus(turn="t", seq=10, status="resumed", epoch=EPOCH + 1),
        delta(11, "e"),
    )
    frames, _ = read(log, JSON, 2)
    assert [frame["seq"] for frame in frames] == [3, 5, 6, 7, 8, 9, 10, 11]
    assert frames[1] == {
        "type": "turn.delta",
        "turn": "t",
        "seq": 5,
        "after": 3,
        "part": 0,
        "signature": "sS",
    }


def test_merging_stops_before_a_frame_is_too_large() -> None:
    """Law 10: pieces are joined only as long as the joined text fits a frame."""
    piece = "😀" * 1000  # 4000 bytes in MessagePack, more in JSON only if escaped
    log = filled(started(), part(2), *(delta(seq, piece) for seq in range(3, 12)))
    frames, _ = read(log, MSGPACK, 2)
    assert len(frames) == 3
    for frame in frames:
        assert encoded_size(frame["text"]) <= PIECE_BYTES_MAX
    assert "".join(frame["text"] for frame in frames) == piece * 9


def test_a_frame_is_encoded_once_for_each_codec() -> None:
    """Readers at the same position get the identical bytes object. After the log has grown, a new one is encoded."""
    log = filled(started(), part(2), delta(3, "a"), delta(4, "b"))
    first, last = log.frame_after(2, JSON)
    assert last == 4
    assert log.frame_after(2, JSON)[0] is first
    assert decoded(MSGPACK, log.frame_after(2, MSGPACK)[0]) == decoded(JSON, first)
    log.events.append(delta(5, "c"))
    assert decoded(JSON, log.frame_after(2, JSON)[0])["text"] == "abc"
    assert decoded(JSON, log.frame_after(4, JSON)[0])["text"] == "c"


def test_which_positions_can_be_continued() -> None:
    """Position 0 can always be continued. Any other can only in the log's epoch; it may be ahead of the log."""
    log = filled(started())
    assert log.can_resume(None, 0)
    assert log.can_resume(EPOCH - 5, 0)
    assert log.can_resume(EPOCH, 1)
    assert log.can_resume(EPOCH, 100)
    assert not log.can_resume(EPOCH - 1, 1)
    assert not log.can_resume(None, 1)


@given(st.text(min_size=1, max_size=200))
def test_the_size_of_an_event_follows_its_text(text: str) -> None:
    """Law 11: the counted size of a waiting delta is about the bytes of its text, in any script."""
    assert 3 * len(text.encode()) < 4 * event_size(TurnDelta("t", 3, 0, text)) <= 12 * len(text.encode()) + 8
    assert event_size(TurnDelta("t", 3, 0, signature=text)) == event_size(TurnDelta("t", 3, 0, text))
    assert event_size(part(2)) == event_size(started())
