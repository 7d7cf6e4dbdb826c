"""One turn's stream: attaching without a gap, positions that are ahead of the log or from another epoch, and the
disconnect timer."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol.codec import CODECS
from gateway.protocol.events import TurnEvent
from gateway.turns.abort import Abort
from gateway.turns.live_turn import LiveTurn
from gateway.turns.state import IllegalTransition
from tests.examples import examples
from tests.stream_reader import Reader, begin, publish_text, stream_of
from tests.turn_events import EPOCH, PIECES, answer, cancelled, completed, delta, part


async def test_each_attachment_gets_every_event_once_from_its_position() -> None:
    """Law 7: the position can be the start, the middle or the end of the log. This holds in either codec."""
    stream, readers = stream_of(), []
    begin(stream)
    publish_text(stream, "a", "b")
    for after in (0, 3, 4):
        for codec in CODECS:
            reader = Reader(codec).at(EPOCH, after)
            assert stream.attach(reader.outbox, EPOCH, after) == after
            readers.append(reader)
    publish_text(stream, "c")
    for reader in readers:
        reader.take(1)
    publish_text(stream, "d")
    stream.publish([completed(stream.log.end + 1)])
    for reader in readers:
        reader.take()
        assert reader.view.ended
        assert reader.outbox.attachments == {}
        assert reader.outbox.waiting_bytes == 0
    assert [reader.view.text() for reader in readers] == ["abcd"] * 2 + ["bcd"] * 2 + ["cd"] * 2


def joined_deltas(frames: list[dict[str, Any]]) -> dict[tuple[int, str], str]:
    """Return the joined contents of the deltas among these frames, by part and field."""
    whole: dict[tuple[int, str], str] = {}
    for frame in frames:
        if frame["type"] == "turn.delta":
            for field in {"text", "signature"} & set(frame):
                whole[frame["part"], field] = whole.get((frame["part"], field), "") + frame[field]
    return whole


def random_step(stream: LiveTurn, events: list[TurnEvent], readers: list[Reader], data: st.DataObject) -> None:
    """Do one random step: the turn publishes events, or a reader attaches, detaches or reads."""
    reader = data.draw(st.sampled_from(readers))
    match data.draw(st.integers(0, 5)):
        case 0 | 1:
            count = data.draw(st.integers(1, 4))
            stream.publish(events[stream.log.end : stream.log.end + count])
        case 2:
            # Reattach at the reader's position: no event is lost or repeated.
            assert stream.attach(reader.outbox, reader.view.epoch, reader.view.seq) == reader.view.seq
        case 3:
            reader.outbox.detach("t")
        case _:
            reader.take(data.draw(st.integers(1, 5)))
    assert all(one.outbox.waiting_bytes >= 0 for one in readers)


@settings(deadline=None, max_examples=examples(60))
@given(PIECES, st.data())
def test_random_interleavings_lose_and_repeat_nothing(pieces: list[tuple[int, bool, str]], data: st.DataObject) -> None:
    """Laws 1, 2 and 7: frames are contiguous and complete, in whatever order a turn publishes and readers attach,
    detach and read."""
    events = answer(pieces)

    async def live() -> None:
        stream = stream_of()
        readers = [Reader(codec) for codec in CODECS for _ in range(2)]
        while stream.log.end < len(events):
            random_step(stream, events, readers, data)
        for reader in readers:
            if "t" not in reader.outbox.attachments and not reader.view.ended:
                stream.attach(reader.outbox, reader.view.epoch, reader.view.seq)
            reader.take()
            assert reader.view.ended
            assert (reader.view.seq, reader.view.resets, reader.outbox.waiting_bytes) == (len(events), 0, 0)
            assert joined_deltas(reader.frames) == joined_deltas([msgspec.to_builtins(event) for event in events])

    asyncio.run(live())


@settings(deadline=None, max_examples=examples(40))
@given(st.integers(0, 8), st.integers(1, 12), st.lists(st.integers(1, 3), max_size=8), st.booleans())
def test_a_position_ahead_of_the_log_waits_for_it(end: int, ahead: int, bursts: list[int], ends: bool) -> None:
    """Law 7: an attachment ahead of the log waits until the log reaches its position. If the turn ends before that, it
    is reset and replayed."""

    async def live() -> None:
        stream = stream_of()
        begin(stream)
        publish_text(stream, *"x" * end)
        position = stream.log.end + ahead
        reader = Reader().at(EPOCH, position)
        assert stream.attach(reader.outbox, EPOCH, position) == position
        for burst in bursts:
            stream.publish(
                [
                    part(stream.log.end + n + 1, n + 1) if n % 2 else delta(stream.log.end + n + 1, "y" * 700)
                    for n in range(burst)
                ]
            )
            assert reader.outbox.waiting_bytes >= 0
            reader.take(1)
            assert reader.outbox.waiting_bytes >= 0
        reached = stream.log.end >= position
        if ends:
            stream.publish([completed(stream.log.end + 1)])
            reached = stream.log.end > position
        reader.take()
        assert reader.outbox.waiting_bytes == 0
        if reached:
            assert (reader.view.resets, reader.view.seq) == (0, stream.log.end)
        elif ends:
            assert reader.frames[0]["type"] == "turn.reset"
            assert (reader.frames[0]["epoch"], reader.frames[0]["seq"]) == (EPOCH, 0)
            assert (reader.view.resets, reader.view.seq) == (1, stream.log.end)
        else:
            assert reader.frames == []
            assert reader.view.seq >= stream.log.end
        assert bool(reader.view.ended) == ends

    asyncio.run(live())


@pytest.mark.parametrize(("epoch", "after"), [(EPOCH - 1, 3), (EPOCH + 1, 1), (None, 2), (EPOCH - 1, 99)])
async def test_a_position_of_another_epoch_is_reset_and_replayed(epoch: int | None, after: int) -> None:
    """Law 7: a position that can't be continued is answered with `from` 0, a reset and a replay, never with silence."""
    stream, reader = stream_of(), Reader()
    begin(stream)
    publish_text(stream, "a", "b")
    assert stream.attach(reader.outbox, epoch, after) == 0
    reader.take()
    assert [frame["type"] for frame in reader.frames] == [
        "turn.reset",
        "turn.started",
        "turn.part",
        "turn.delta",
    ]
    assert reader.view.text() == "ab"


async def test_an_ended_turn_is_replayed_and_then_detached() -> None:
    """Law 7: an attachment to an ended turn gets the rest of it. At the end position there is nothing to send, and no
    attachment remains."""
    stream, reader = stream_of(), Reader()
    begin(stream)
    stream.publish([completed(3)])
    assert stream.attach(reader.outbox, None, 0) == 0
    reader.take()
    assert reader.view.ended
    again = Reader().at(EPOCH, 3)
    assert stream.attach(again.outbox, EPOCH, 3) == 3
    assert again.outbox.attachments == {}
    beyond = Reader().at(EPOCH, 9)
    assert stream.attach(beyond.outbox, EPOCH, 9) == 0
    beyond.take()
    assert beyond.view.resets == 1
    assert beyond.view.ended


async def test_attaching_at_the_ending_drops_an_older_attachment() -> None:
    """Law 2: an attach at the end of an ended turn replaces an attachment that still had a backlog."""
    stream, reader = stream_of(), Reader()
    begin(stream)
    stream.attach(reader.outbox, None, 0)
    stream.publish([completed(3)])
    reader.at(EPOCH, 3)
    assert stream.attach(reader.outbox, EPOCH, 3) == 3
    reader.take()
    assert reader.frames == []


async def test_an_illegal_event_changes_nothing() -> None:
    """Law 2: a batch with an illegal transition is refused as a whole."""
    stream, reader = stream_of(), Reader()
    begin(stream)
    stream.attach(reader.outbox, None, 0)
    with pytest.raises(IllegalTransition):
        stream.publish([cancelled(3), completed(4)])
    assert (stream.state, stream.log.end, stream.log.is_ended) == ("streaming", 2, False)
    stream.publish([cancelled(3)])
    with pytest.raises(IllegalTransition):
        publish_text(stream, "late")
    reader.take()
    assert reader.view.ended


async def test_live_events_after_catching_up_are_counted() -> None:
    """Law 11: live events that wait for an attachment are counted, even if it was at the end of the log."""
    stream, reader = stream_of(), Reader(bytes_max=3000)
    begin(stream)
    stream.attach(reader.outbox, None, 0)
    reader.take()
    publish_text(stream, "x" * 1000)
    assert reader.outbox.waiting_bytes >= 1000
    publish_text(stream, "x" * 1000, "x" * 1000)
    assert reader.outbox.is_closed


async def test_an_overflowing_outbox_does_not_slow_others() -> None:
    """Law 11: an outbox past its bound is detached from the turn; the others get every event."""
    stream, slow, quick = stream_of(), Reader(bytes_max=2000), Reader()
    begin(stream)
    stream.attach(slow.outbox, None, 0)
    stream.attach(quick.outbox, None, 0)
    for _ in range(50):
        publish_text(stream, "x" * 100)
        quick.take()
    assert slow.outbox.is_closed
    stream.publish([completed(stream.log.end + 1)])
    quick.take()
    assert quick.view.text() == "x" * 5000
    again = Reader()
    stream.attach(again.outbox, None, 0)
    again.take()
    assert again.view.text() == "x" * 5000


# --- on_disconnect: cancel ---


async def test_a_turn_without_attachments_is_cancelled_after_the_grace_period() -> None:
    """Law 8: after the last attachment has been gone for the grace period, the signal fires, `by` `disconnect`."""
    stream, one, two = stream_of(grace_s=0.01), Reader(), Reader()
    begin(stream)
    stream.attach(one.outbox, None, 0)
    stream.attach(two.outbox, None, 0)
    fired = asyncio.Event()
    stream.signal.add_listener(lambda _: fired.set())
    one.outbox.close()
    await asyncio.sleep(0.03)
    assert not fired.is_set()
    two.outbox.detach("t")
    await asyncio.wait_for(fired.wait(), 5)
    assert stream.signal.abort_reason is not None
    assert stream.signal.abort_reason.by == "disconnect"


async def test_an_attach_within_the_grace_period_keeps_the_turn() -> None:
    """Law 8: an attach within the grace period stops the timer, and replacing an attachment never starts it."""
    stream, reader = stream_of(grace_s=0.02), Reader()
    begin(stream)
    stream.attach(reader.outbox, None, 0)
    stream.attach(reader.outbox, EPOCH, 1)
    reader.outbox.detach("t")
    stream.attach(reader.outbox, EPOCH, 2)
    await asyncio.sleep(0.05)
    assert not stream.signal.is_aborted


async def test_a_turn_without_a_grace_period_continues() -> None:
    """Law 8: a turn with `on_disconnect: continue` has no timer, and neither has a turn that has ended."""
    stream, ended, reader = stream_of(), stream_of("u", grace_s=0), Reader()
    begin(stream)
    stream.attach(reader.outbox, None, 0)
    begin(ended)
    ended.attach(reader.outbox, None, 0)
    ended.publish([completed(3, "u")])
    ended.end()
    reader.outbox.close()
    await asyncio.sleep(0.01)
    assert not stream.signal.is_aborted
    assert not ended.signal.is_aborted


async def test_the_end_cancels_timers_and_sets_the_ended_event() -> None:
    """After the end of a turn, none of its timers can fire. A stopped turn is live until its end, but not abortable."""
    stream, reader = stream_of(grace_s=0.01), Reader()
    begin(stream)
    stream.attach(reader.outbox, None, 0)
    reader.outbox.detach("t")
    stream.signal.abort_after(0.01, Abort("limit"))
    assert stream.is_abortable
    stream.stopped.set()
    assert stream.is_live
    assert not stream.is_abortable
    stream.end()
    assert stream.ended.is_set()
    await asyncio.sleep(0.03)
    assert not stream.signal.is_aborted
