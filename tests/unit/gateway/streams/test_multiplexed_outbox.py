"""The user outboxes of a connection that acts for many users: `as` on frames, rotation, and a bound for each user."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.protocol import requests as p
from gateway.protocol.codec import CODECS, JSON, MSGPACK, Codec
from gateway.protocol.events import Heartbeat
from gateway.streams.multiplexed_outbox import MultiplexedOutbox, UserOutbox
from tests.unit.gateway.streams.test_outbox import BYTES_MAX, Source

USERS = ["ann", 'a"b\\c', "Ünï 安", "x" * 255]


class Reader:
    """A multiplexed outbox, and the calls of its callbacks."""

    def __init__(self, codec: Codec = JSON, bytes_max: int = BYTES_MAX) -> None:
        self.wakes = 0
        self.overflows = 0
        self.codec = codec
        self.outbox = MultiplexedOutbox(codec, bytes_max, self._wake, self._overflow)

    def _wake(self) -> None:
        self.wakes += 1

    def _overflow(self) -> None:
        self.overflows += 1

    def drain(self) -> list[dict[str, Any]]:
        """Return every waiting frame."""
        frames = []
        while (payload := self.outbox.next_frame()) is not None:
            frames.append(self.codec.decode_any(payload))
        return frames


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("fields", [1, 13, 14, 15, 16, 17, 300])
def test_the_user_is_inserted_into_any_frame(codec: Codec, user: str, fields: int) -> None:
    """For any number of fields and any user, the result is the same frame with `as`."""
    frame = {f"f{n}": n for n in range(fields)}
    user_outbox = UserOutbox(user, codec, BYTES_MAX, lambda _: None, lambda: None)
    assert codec.decode_any(user_outbox.with_user(codec.encode(frame))) == {"as": user, **frame}


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_the_largest_frame_with_the_longest_user_fits(codec: Codec) -> None:
    """Law 10: the frame is within the limit of outgoing frames."""
    user_outbox = UserOutbox('"' * p.USER_BYTES_MAX, codec, BYTES_MAX, lambda _: None, lambda: None)
    piece = p.ResultPiece("i" * 64, "x" * (p.PIECE_BYTES_MAX - 2))
    assert len(user_outbox.with_user(codec.encode(piece))) <= p.FRAME_BYTES_OUT_MAX


def test_the_connections_own_frames_have_no_user() -> None:
    """They alternate with the users' frames, and both keep their order."""
    reader = Reader()
    ann = reader.outbox.open_user_outbox("ann")
    for n in range(3):
        ann.put(p.Result(f"a{n}", n))
        reader.outbox.put(Heartbeat(n))
    got = reader.drain()
    assert ["as" in frame for frame in got] == [False, True] * 3
    assert [frame["id"] for frame in got if "as" in frame] == ["a0", "a1", "a2"]
    assert [frame["t"] for frame in got if "as" not in frame] == [0, 1, 2]


def test_users_are_served_in_rotation() -> None:
    """A user with many frames doesn't delay the others."""
    reader = Reader()
    for user in ("ann", "bob", "eve"):
        user_outbox = reader.outbox.open_user_outbox(user)
        for n in range(1 if user == "eve" else 4):
            user_outbox.put(p.Result(str(n), n))
    assert [frame["as"] for frame in reader.drain()][:6] == ["ann", "bob", "eve", "ann", "bob", "ann"]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_one_turn_id_of_two_users_is_two_turns(codec: Codec) -> None:
    """Each user receives only the events of its own turn."""
    reader = Reader(codec)
    sources = {}
    for user in ("ann", "bob"):
        source = sources[user] = Source("t")
        source.attach(reader.outbox.open_user_outbox(user))
        source.begin()
        source.publish_text(user)
        source.end()
    got = reader.drain()
    for user in sources:
        texts = [frame["text"] for frame in got if frame["as"] == user and "text" in frame]
        assert texts == [user]
    assert len(got) == 8


def test_a_new_frame_wakes_the_writer() -> None:
    """An empty outbox wakes the writer once for new events, and again after it was drained."""
    reader = Reader()
    source = Source()
    source.attach(reader.outbox.open_user_outbox("ann"))
    for _ in range(3):
        woken = reader.wakes
        source.begin() if source.log.end == 0 else source.publish_text()
        assert reader.wakes == woken + 1
        assert reader.drain()


def test_past_its_bound_only_one_user_is_detached() -> None:
    """Each of the user's turns gets `turn.detached` with `too_slow`. The connection and the other users are unaffected
    (law 11)."""
    reader = Reader()
    slow, other = reader.outbox.open_user_outbox("ann"), reader.outbox.open_user_outbox("bob")
    turns = [Source(f"t{n}") for n in range(3)]
    for source in turns:
        source.attach(slow)
        source.begin()
    kept = Source("t0")
    kept.attach(other)
    kept.begin()
    while slow.attachments:
        turns[0].publish_text("x" * 100)
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
    turns[0].publish_text("again")
    assert [frame["text"] for frame in reader.drain()] == ["again"]
    assert slow.waiting_bytes == 0


def test_answers_over_the_bound_overflow_the_connection() -> None:
    """If one user's answers alone exceed the bound, the client isn't reading. `on_overflow` is called once."""
    reader = Reader()
    user_outbox = reader.outbox.open_user_outbox("ann")
    source = Source()
    source.attach(user_outbox)
    source.begin()
    for n in range(BYTES_MAX // 10):
        user_outbox.put(p.Result(str(n), "x" * 20))
    assert reader.overflows == 1
    assert user_outbox.is_closed
    assert source.attachments == []


def test_closing_drops_every_user_outbox() -> None:
    """A user outbox that is opened afterwards keeps no frame."""
    reader = Reader()
    source = Source()
    source.attach(reader.outbox.open_user_outbox("ann"))
    source.begin()
    reader.outbox.close()
    assert source.attachments == []
    late = reader.outbox.open_user_outbox("bob")
    late.put(Heartbeat(1))
    assert reader.drain() == []


def test_a_dropped_user_outbox_is_removed() -> None:
    """A new outbox of the same user starts empty."""
    reader = Reader()
    reader.outbox.open_user_outbox("ann").put(Heartbeat(1))
    reader.outbox.drop_user_outbox("ann")
    reader.outbox.open_user_outbox("ann").put(Heartbeat(2))
    assert [frame["t"] for frame in reader.drain()] == [2]


def test_a_user_outbox_without_answers_and_attachments_is_empty() -> None:
    """A user outbox is empty if it has no waiting answer and no attachment."""
    reader = Reader()
    user_outbox = reader.outbox.open_user_outbox("ann")
    assert user_outbox.is_empty
    user_outbox.put(Heartbeat(1))
    assert not user_outbox.is_empty
    reader.drain()
    assert user_outbox.is_empty
    Source().attach(user_outbox)
    assert not user_outbox.is_empty


def test_the_bound_applies_to_each_user() -> None:
    """Two users that are both just below the bound cause no overflow."""
    reader = Reader(MSGPACK)
    for user in ("ann", "bob"):
        source = Source(user)
        user_outbox = reader.outbox.open_user_outbox(user)
        source.attach(user_outbox)
        source.begin()
        while user_outbox.waiting_bytes < BYTES_MAX - 600:
            source.publish_text("x" * 100)
        assert source.attachments
    assert reader.overflows == 0


def test_frames_are_not_encoded_again() -> None:
    """The bytes after the user are those that every other client gets."""
    user_outbox = UserOutbox("ann", JSON, BYTES_MAX, lambda _: None, lambda: None)
    frame = JSON.encode(Heartbeat(5))
    assert user_outbox.with_user(frame) == b'{"as":"ann",' + frame[1:]
    packed = msgspec.msgpack.encode({"t": 5})
    assert UserOutbox("ann", MSGPACK, 1, lambda _: None, lambda: None).with_user(packed).endswith(packed[1:])
