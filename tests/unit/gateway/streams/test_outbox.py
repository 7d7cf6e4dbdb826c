"""What waits for one connection: the order of answers and events, rotation, and the bound of waiting bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.protocol.codec import CODECS, JSON, MSGPACK, Codec
from gateway.protocol.events import Heartbeat, TurnEvent
from gateway.streams.log import TurnLog, event_size
from gateway.streams.outbox import Attachment, Outbox
from tests.examples import examples
from tests.turn_events import EPOCH, completed, delta, part, started

BYTES_MAX = 4096


class Reader:
    """An outbox, and how often it has called each of its callbacks."""

    def __init__(self, bytes_max: int = BYTES_MAX, codec: Codec = JSON) -> None:
        self.wakes = 0
        self.overflows = 0
        self.large_sent = 0
        self.codec = codec
        self.outbox = Outbox(codec, bytes_max, self._wake, self._overflow)

    def _wake(self) -> None:
        self.wakes += 1

    def _overflow(self) -> None:
        self.overflows += 1

    def count_large_sent(self) -> None:
        self.large_sent += 1

    def next_frame(self) -> dict[str, Any] | None:
        payload = self.outbox.next_frame()
        if payload is None:
            return None
        frame: dict[str, Any] = msgspec.msgpack.decode(payload) if self.codec.binary else msgspec.json.decode(payload)
        return frame

    def drain(self) -> list[dict[str, Any]]:
        frames = []
        while (frame := self.next_frame()) is not None:
            frames.append(frame)
        return frames


class Source:
    """A turn that publishes to its attachments as a live turn does."""

    def __init__(self, turn: str = "t") -> None:
        self.log = TurnLog(turn, EPOCH)
        self.attachments: list[Attachment] = []
        self.detached: list[Attachment] = []

    def attach(self, outbox: Outbox, cursor: int = 0, reset_frame: bytes | None = None) -> Attachment:
        attachment = Attachment(self.log, outbox, cursor, reset_frame, self._on_detached)
        self.attachments.append(attachment)
        outbox.attach(attachment)
        return attachment

    def _on_detached(self, attachment: Attachment) -> None:
        self.attachments.remove(attachment)
        self.detached.append(attachment)

    def publish(self, *events: TurnEvent) -> None:
        self.log.events.extend(events)
        self.log.is_ended = self.log.is_ended or type(events[-1]) is type(completed(1))
        size = sum(event_size(event) for event in events)
        for attachment in tuple(self.attachments):
            attachment.outbox.offer(attachment, size)

    def begin(self) -> None:
        turn = self.log.turn
        self.publish(started(turn), part(2, turn=turn))

    def publish_text(self, text: str = "x") -> None:
        self.publish(delta(self.log.end + 1, text, turn=self.log.turn))

    def end(self) -> None:
        self.publish(completed(self.log.end + 1, self.log.turn))


def turn_positions(frames: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Return turn and seq of each turn frame, and the number of each answer."""
    return [
        (str(frame.get("turn", "answer")), int(frame["seq"] if "turn" in frame else frame["t"])) for frame in frames
    ]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_answers_keep_their_order(codec: Codec) -> None:
    """Frames without a turn are sent in the order of their `put` calls, in the connection's codec."""
    reader = Reader(codec=codec)
    for n in range(5):
        reader.outbox.put(Heartbeat(n))
    assert reader.outbox.waiting_bytes > 0
    assert reader.wakes == 5
    assert [frame["t"] for frame in reader.drain()] == [0, 1, 2, 3, 4]
    assert reader.outbox.waiting_bytes == 0


def test_an_answer_follows_the_earlier_events_of_its_turns() -> None:
    """Law 5: an answer ordered after a turn follows every event that the turn's log had when the answer was put."""
    reader, source, other = Reader(), Source(), Source("other")
    attachment = source.attach(reader.outbox)
    other.attach(reader.outbox)
    source.begin()
    other.begin()
    for text in ("a", "b"):
        source.publish_text(text)
        other.publish_text(text)
    reader.outbox.put(Heartbeat(0), [attachment])
    source.publish_text("late")
    frames = reader.drain()
    at = turn_positions(frames).index(("answer", 0))
    assert max(seq for turn, seq in turn_positions(frames)[:at] if turn == "t") >= 4
    assert reader.outbox.waiting_bytes == 0
    assert "".join(frame.get("text", "") for frame in frames if frame.get("turn") == "t") == "ablate"


def test_an_answer_does_not_wait_for_a_turn_that_was_detached() -> None:
    """An answer ordered after an attachment doesn't wait if that attachment was detached or replaced."""
    reader, source = Reader(), Source()
    attachment = source.attach(reader.outbox)
    source.begin()
    reader.outbox.put(Heartbeat(0), [attachment])
    reader.outbox.detach("t")
    assert turn_positions(reader.drain()) == [("answer", 0)]
    old = source.attach(reader.outbox)
    reader.outbox.put(Heartbeat(1), [old])
    source.attach(reader.outbox, cursor=2)
    assert turn_positions(reader.drain()) == [("answer", 1)]


def test_an_answer_does_not_wait_for_a_position_ahead_of_the_log() -> None:
    """Law 7: an attachment ahead of its log has no frame to send, so no answer waits for it."""
    reader, source = Reader(), Source()
    source.begin()
    ahead = source.attach(reader.outbox, cursor=9)
    assert not ahead.has_frame
    reader.outbox.put(Heartbeat(0), [ahead])
    assert turn_positions(reader.drain()) == [("answer", 0)]


def test_attached_turns_are_sent_in_rotation() -> None:
    """Law 11: one frame of each attached turn is sent in rotation, so a long turn doesn't delay a short one."""
    reader = Reader(bytes_max=10**6)
    sources = [Source(turn) for turn in "abc"]
    for source in sources:
        source.attach(reader.outbox)
        source.begin()
        for n in range(6):
            source.publish(part(source.log.end + 1, n + 1, turn=source.log.turn))
    turns = [frame["turn"] for frame in reader.drain()]
    assert turns == list("abc") * 8


def test_answers_and_turns_do_not_starve_each_other() -> None:
    """Answers and turn frames alternate, so that neither delays the other."""
    reader, source = Reader(bytes_max=10**6), Source()
    source.attach(reader.outbox)
    source.begin()
    for n in range(4):
        source.publish(part(source.log.end + 1, n + 1))
        reader.outbox.put(Heartbeat(n))
    kinds = [turn for turn, _ in turn_positions(reader.drain())]
    assert kinds[:8] == ["answer", "t"] * 4
    assert kinds[8:] == ["t"] * 2


def test_past_its_bound_an_outbox_overflows_once_and_closes() -> None:
    """Law 11: waiting live events are bounded. Past the bound everything is dropped, and the overflow is reported
    once."""
    reader, source = Reader(), Source()
    source.attach(reader.outbox)
    source.begin()
    published = 0
    while not reader.overflows:
        source.publish_text("x" * 100)
        published += 100
    assert published <= BYTES_MAX + 200
    assert reader.outbox.is_closed
    assert source.attachments == []
    assert len(source.detached) == 1
    source.publish_text("more")
    reader.outbox.put(Heartbeat(0))
    assert reader.drain() == []
    assert reader.overflows == 1


def test_answers_are_bounded_too() -> None:
    """Law 11: frames without a turn count against the bound as well."""
    reader = Reader()
    for n in range(1000):
        reader.outbox.put(Heartbeat(n))
    assert reader.overflows == 1


def test_a_large_answer_is_not_counted() -> None:
    """Law 11: the pieces of a large answer don't count against the bound. A callback is called when no piece waits any
    more."""
    reader = Reader()
    assert not reader.outbox.has_large_answer
    for _ in range(3):
        reader.outbox.put({"type": "result.piece", "id": "1", "text": "x" * 3000}, large=True)
    assert reader.outbox.waiting_bytes == 0
    assert reader.outbox.has_large_answer
    reader.outbox.when_large_sent(reader.count_large_sent)
    for calls in (0, 0, 1):
        assert reader.next_frame() is not None
        assert reader.large_sent == calls
    assert not reader.outbox.has_large_answer


def test_replay_is_pulled_and_not_counted() -> None:
    """Laws 7 and 11: a replay of any length doesn't count against the bound. Live events after it count until they are
    sent."""
    reader, source = Reader(), Source()
    source.begin()
    for _ in range(100):
        source.publish_text("x" * 500)
    source.attach(reader.outbox)
    assert reader.outbox.waiting_bytes == 0
    source.publish_text("y" * 1000)
    waiting = reader.outbox.waiting_bytes
    assert waiting >= 1000
    assert reader.next_frame() is not None
    assert reader.outbox.waiting_bytes == waiting
    text = "".join(frame.get("text", "") for frame in reader.drain())
    assert text == "x" * 50_000 + "y" * 1000
    assert reader.outbox.waiting_bytes == 0
    assert reader.overflows == 0


def test_a_burst_is_pulled_and_not_counted() -> None:
    """Law 11: a batch that would fill more than half of the bound isn't counted. Later events count again."""
    reader, source = Reader(), Source()
    source.attach(reader.outbox)
    source.begin()
    source.publish_text("a" * 1000)
    source.publish(*(delta(source.log.end + n, "b" * 1000) for n in range(1, 100)))
    assert (reader.overflows, reader.outbox.waiting_bytes) == (0, 0)
    source.publish_text("c" * 1000)
    assert reader.outbox.waiting_bytes >= 1000
    assert "".join(frame.get("text", "") for frame in reader.drain()) == "a" * 1000 + "b" * 99_000 + "c" * 1000
    assert reader.outbox.waiting_bytes == 0
    for _ in range(10):
        source.publish_text("d" * 1000)
    assert reader.overflows == 1


def test_waiting_bytes_decrease_with_each_frame() -> None:
    """The count decreases with each frame that is sent, and is 0 at the end."""
    reader, source = Reader(bytes_max=10**6), Source()
    source.attach(reader.outbox)
    source.begin()
    for n in range(5):
        source.publish_text("abc")
        source.publish(part(source.log.end + 1, n + 1))
    waits = [reader.outbox.waiting_bytes]
    while reader.next_frame() is not None:
        waits.append(reader.outbox.waiting_bytes)
    assert waits == sorted(waits, reverse=True)
    assert len(set(waits)) == len(waits)
    assert waits[-1] == 0


def test_a_second_attachment_to_a_turn_replaces_the_first() -> None:
    """The first one is detached, and its backlog no longer counts. The second one starts at its own position."""
    reader, source = Reader(), Source()
    first = source.attach(reader.outbox)
    source.begin()
    source.publish_text("abc")
    second = source.attach(reader.outbox, cursor=2)
    assert source.detached == [first]
    assert reader.outbox.waiting_bytes == 0
    assert reader.outbox.attachments == {"t": second}
    assert turn_positions(reader.drain()) == [("t", 3)]


def test_the_ending_removes_the_attachment() -> None:
    """After the ending is sent, the outbox keeps no attachment to the turn."""
    reader, source = Reader(), Source()
    attachment = source.attach(reader.outbox)
    source.begin()
    source.end()
    assert reader.outbox.attachments == {"t": attachment}
    reader.drain()
    assert reader.outbox.attachments == {}
    assert source.detached == [attachment]
    assert reader.outbox.detach("t") is None


def test_a_reset_frame_precedes_the_replay() -> None:
    """Law 7: the frame that resets the client is the first frame of the attachment."""
    reader, source = Reader(), Source()
    source.begin()
    source.attach(reader.outbox, reset_frame=MSGPACK.encode({}))
    assert reader.outbox.next_frame() == MSGPACK.encode({})
    assert turn_positions(reader.drain()) == [("t", 1), ("t", 2)]


def test_a_closed_outbox_keeps_no_attachment() -> None:
    """An attachment to a closed outbox is detached at once."""
    reader, source = Reader(), Source()
    source.begin()
    reader.outbox.close()
    attachment = source.attach(reader.outbox)
    assert source.detached == [attachment]
    assert reader.outbox.attachments == {}
    assert reader.outbox.next_frame() is None


class OutboxMachine(RuleBasedStateMachine):
    """Random publishing, attaching, detaching, answering and draining, compared with what a client must receive."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = Reader(bytes_max=3000)
        self.sources = {turn: Source(turn) for turn in "ab"}
        self.positions: dict[str, int] = {}
        self.answers = 0
        self.answered = 0
        self.barriers: dict[int, tuple[Attachment, str, int]] = {}

    @rule(turn=st.sampled_from("ab"), cursor=st.integers(0, 6))
    def attach(self, turn: str, cursor: int) -> None:
        """Attach at a position that the log holds."""
        if self.reader.outbox.is_closed:
            return
        source = self.sources[turn]
        self.positions[turn] = min(cursor, source.log.end)
        source.attach(self.reader.outbox, self.positions[turn])

    @rule(turn=st.sampled_from("ab"))
    def detach(self, turn: str) -> None:
        """Detach from the turn."""
        self.reader.outbox.detach(turn)
        self.positions.pop(turn, None)

    @rule(turn=st.sampled_from("ab"), size=st.integers(1, 400) | st.integers(1400, 4000), count=st.integers(1, 3))
    def publish(self, turn: str, size: int, count: int) -> None:
        """Publish deltas of the turn."""
        source = self.sources[turn]
        if not source.log.events:
            source.begin()
        for _ in range(count):
            source.publish_text("x" * size)

    @rule(turn=st.sampled_from("ab"))
    def open_part(self, turn: str) -> None:
        """Publish an event that can't be merged with others."""
        source = self.sources[turn]
        if source.log.events:
            source.publish(part(source.log.end + 1, 1, turn=turn))

    @rule(ordered_after=st.booleans())
    def put(self, ordered_after: bool) -> None:
        """Put an answer, possibly ordered after one of the turns."""
        attachments = list(self.reader.outbox.attachments.values())[: 1 if ordered_after else 0]
        for attachment in attachments:
            self.barriers[self.answers] = (attachment, attachment.log.turn, attachment.log.end)
        self.reader.outbox.put(Heartbeat(self.answers), attachments)
        self.answers += 1

    @rule(frames=st.integers(1, 10))
    def read(self, frames: int) -> None:
        """Read some frames, and check each of them."""
        for _ in range(frames):
            frame = self.reader.next_frame()
            if frame is None:
                return
            self._check(frame)

    def _check(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "heartbeat":
            assert frame["t"] == self.answered
            self.answered += 1
            barrier = self.barriers.get(frame["t"])
            if barrier is not None:
                attachment, turn, seq = barrier
                if self.reader.outbox.attachments.get(turn) is attachment:
                    assert self.positions[turn] >= seq
            return
        turn = frame["turn"]
        assert frame.get("after", frame["seq"] - 1) == self.positions[turn]
        self.positions[turn] = frame["seq"]

    @invariant()
    def waiting_bytes_are_bounded(self) -> None:
        """The waiting bytes are never negative. While the outbox is open, they are within the bound, and its attachments are
        at the client's positions."""
        outbox = self.reader.outbox
        assert outbox.waiting_bytes >= 0
        assert all(attachment.backlog_bytes >= 0 for attachment in outbox.attachments.values())
        assert self.reader.overflows == outbox.is_closed
        if not outbox.is_closed:
            assert outbox.waiting_bytes <= 3000
            cursors = {turn: attachment.cursor for turn, attachment in outbox.attachments.items()}
            assert cursors == self.positions

    def teardown(self) -> None:
        """Drain the outbox. If it is open, no bytes wait then, and all answers and events of attached turns arrived.

        A closed outbox has no attachments."""
        outbox = self.reader.outbox
        for frame in self.reader.drain():
            self._check(frame)
        if outbox.is_closed:
            assert all(not source.attachments for source in self.sources.values())
            return
        assert outbox.waiting_bytes == 0
        assert self.answered == self.answers
        for turn, attachment in outbox.attachments.items():
            assert self.positions[turn] == self.sources[turn].log.end
            assert attachment.backlog_bytes == 0


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=examples(40), stateful_step_count=40, deadline=None)
