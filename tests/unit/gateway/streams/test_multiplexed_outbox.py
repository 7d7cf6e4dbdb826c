"""The lanes of a connection that speaks for many: names on frames, rotation, and a bound for each."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.protocol import requests as p
from gateway.protocol.codec import CODECS, JSON, MSGPACK, Codec
from gateway.protocol.events import Heartbeat
from gateway.streams.log import EVENT_BYTES
from gateway.streams.multiplexed_outbox import MultiplexedOutbox, UserOutbox
from tests.unit.gateway.streams.test_outbox import BYTES_MAX, Source

USERS = ["ann", 'a"b\\c', "Ünï 安", "x" * 255]


class Reader:
    """Lanes, and what their owner heard and took."""

    def __init__(self, codec: Codec = JSON, bytes_max: int = BYTES_MAX) -> None:
        self.wakes = 0
        self.overflows = 0
        self.codec = codec
        self.lanes = MultiplexedOutbox(codec, bytes_max, self._wake, self._overflow)

    def _wake(self) -> None:
        self.wakes += 1

    def _overflow(self) -> None:
        self.overflows += 1

    def drain(self) -> list[dict[str, Any]]:
        """Every frame that waits."""
        frames = []
        while (payload := self.lanes.next_frame()) is not None:
            frames.append(self.codec.decode_any(payload))
        return frames


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("fields", [1, 13, 14, 15, 16, 17, 300])
def test_a_name_is_put_into_any_frame(codec: Codec, user: str, fields: int) -> None:
    """Whatever the number of its fields, and whatever the name, it is the same frame with `as`."""
    frame = {f"f{n}": n for n in range(fields)}
    lane = UserOutbox(user, codec, BYTES_MAX, lambda _: None, lambda: None)
    assert codec.decode_any(lane.with_user(codec.encode(frame))) == {"as": user, **frame}


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_the_largest_frame_with_the_longest_name_is_small_enough(codec: Codec) -> None:
    """Law 10."""
    lane = UserOutbox('"' * p.USER_BYTES_MAX, codec, BYTES_MAX, lambda _: None, lambda: None)
    piece = p.ResultPiece("i" * 64, "x" * (p.PIECE_BYTES_MAX - 2))
    assert len(lane.with_user(codec.encode(piece))) <= p.FRAME_BYTES_OUT_MAX


def test_the_connection_s_own_frames_have_no_name() -> None:
    """They come beside the users', each in its order."""
    reader = Reader()
    ann = reader.lanes.open_user_outbox("ann")
    for n in range(3):
        ann.put(p.Result(f"a{n}", n))
        reader.lanes.put(Heartbeat(n))
    got = reader.drain()
    assert [frame["id"] for frame in got if "as" in frame] == ["a0", "a1", "a2"]
    assert [frame["t"] for frame in got if "as" not in frame] == [0, 1, 2]
    assert "as" not in got[0]
    assert "as" in got[1]


def test_users_have_their_turns_in_rotation() -> None:
    """One who has much to say doesn't keep the others waiting."""
    reader = Reader()
    for user in ("ann", "bob", "eve"):
        lane = reader.lanes.open_user_outbox(user)
        for n in range(1 if user == "eve" else 4):
            lane.put(p.Result(str(n), n))
    assert [frame["as"] for frame in reader.drain()][:6] == ["ann", "bob", "eve", "ann", "bob", "ann"]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_one_turn_id_of_two_users_is_two_turns(codec: Codec) -> None:
    """Each gets the events of its own."""
    reader = Reader(codec)
    sources = {}
    for user in ("ann", "bob"):
        source = sources[user] = Source("t")
        source.attach(reader.lanes.open_user_outbox(user))
        source.begin()
        source.say(user)
        source.end()
    got = reader.drain()
    for user in sources:
        texts = [frame["text"] for frame in got if frame["as"] == user and "text" in frame]
        assert texts == [user]
    assert len(got) == 8


def test_a_lane_wakes_the_writer_when_something_comes() -> None:
    """Also after it was empty."""
    reader = Reader()
    source = Source()
    source.attach(reader.lanes.open_user_outbox("ann"))
    for _ in range(3):
        woken = reader.wakes
        source.begin() if source.log.end == 0 else source.say()
        assert reader.wakes == woken + 1
        assert reader.drain()


def test_past_its_bound_a_user_is_detached_and_nobody_else() -> None:
    """`turn.detached` too_slow for each of that user's turns; the connection and the other users go on (law 11)."""
    reader = Reader()
    slow, other = reader.lanes.open_user_outbox("ann"), reader.lanes.open_user_outbox("bob")
    turns = [Source(f"t{n}") for n in range(3)]
    for source in turns:
        source.attach(slow)
        source.begin()
    kept = Source("t0")
    kept.attach(other)
    kept.begin()
    while slow.attachments:
        turns[0].say("x" * 100)
    assert reader.overflows == 0
    assert all(source.attachments == [] for source in turns)
    assert len(kept.attachments) == 1
    got = reader.drain()
    mine = [frame for frame in got if frame["as"] == "ann"]
    assert [(frame["type"], frame["turn"], frame["reason"]) for frame in mine] == [
        ("turn.detached", f"t{n}", "too_slow") for n in range(3)
    ]
    assert [frame["seq"] for frame in got if frame["as"] == "bob"] == [1, 2]
    turns[0].attach(slow, cursor=turns[0].log.end)
    turns[0].say("again")
    assert [frame["text"] for frame in reader.drain()] == ["again"]
    assert slow.waiting_bytes == 0


def test_answers_are_never_dropped() -> None:
    """Where they alone are too many, nobody reads: the whole connection is too slow, once."""
    reader = Reader()
    lane = reader.lanes.open_user_outbox("ann")
    source = Source()
    source.attach(lane)
    source.begin()
    for n in range(BYTES_MAX // 10):
        lane.put(p.Result(str(n), "x" * 20))
    assert reader.overflows == 1
    assert lane.is_closed
    assert source.attachments == []


def test_closing_drops_every_lane() -> None:
    """And one that is opened afterwards takes nothing."""
    reader = Reader()
    source = Source()
    source.attach(reader.lanes.open_user_outbox("ann"))
    source.begin()
    reader.lanes.close()
    assert source.attachments == []
    late = reader.lanes.open_user_outbox("bob")
    late.put(Heartbeat(1))
    assert reader.drain() == []


def test_a_dropped_lane_is_forgotten() -> None:
    """A new one of the same user begins empty."""
    reader = Reader()
    reader.lanes.open_user_outbox("ann").put(Heartbeat(1))
    reader.lanes.drop_user_outbox("ann")
    reader.lanes.open_user_outbox("ann").put(Heartbeat(2))
    assert [frame["t"] for frame in reader.drain()] == [2]


def test_is_empty_says_whether_a_lane_can_go() -> None:
    """Nothing waits, nothing is followed."""
    reader = Reader()
    lane = reader.lanes.open_user_outbox("ann")
    assert lane.is_empty
    lane.put(Heartbeat(1))
    assert not lane.is_empty
    reader.drain()
    assert lane.is_empty
    Source().attach(lane)
    assert not lane.is_empty


def test_sizes_are_those_of_events() -> None:
    """The bound is per user: two users at just below it are no overflow."""
    reader = Reader(MSGPACK)
    for user in ("ann", "bob"):
        source = Source(user)
        source.attach(reader.lanes.open_user_outbox(user))
        source.begin()
        while (
            sum(lane.waiting_bytes for lane in [attachment.outbox for attachment in source.attachments])
            < BYTES_MAX - 600
        ):
            source.say("x" * 100)
        assert source.attachments
    assert reader.overflows == 0
    assert EVENT_BYTES < BYTES_MAX


def test_frames_are_not_encoded_anew() -> None:
    """The bytes behind the name are those that everybody else gets."""
    lane = UserOutbox("ann", JSON, BYTES_MAX, lambda _: None, lambda: None)
    frame = JSON.encode(Heartbeat(5))
    assert lane.with_user(frame) == b'{"as":"ann",' + frame[1:]
    packed = msgspec.msgpack.encode({"t": 5})
    assert UserOutbox("ann", MSGPACK, 1, lambda _: None, lambda: None).with_user(packed).endswith(packed[1:])
