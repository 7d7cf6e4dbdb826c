"""The log writer: events are logged within the flush interval, or after an outage of the store (law 4). Outages are
reported, and the store's replies are applied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from gateway.protocol.codec import JSON
from gateway.turns.abort import Abort
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_entries import decode_events
from gateway.turns.log_writer import LogWriter, apply_cancel
from store.api import erased_key
from store.errors import PartFailed, StoreError
from store.records import Append, Appended
from tests.in_process import ControlledStore, eventually
from tests.in_time import checks_time_limit, within
from tests.stored import stateless_turn
from tests.turn_events import EPOCH, delta, part, started

FLUSH_S = 0.02


class WriterHarness:
    """A log writer with its store, and the states that it reported."""

    def __init__(self, store: ControlledStore, tasks: asyncio.TaskGroup) -> None:
        self.store = store
        self.states: list[bool] = []
        self.writer = LogWriter(store.as_store, FLUSH_S, self.states.append, tasks)

    async def stream(self, turn: str = "t") -> LiveTurn:
        """Return an accepted turn whose first events are published."""
        accepted = await self.store.accept(stateless_turn(turn, epoch=EPOCH))
        stream = LiveTurn("ann", turn, b"digest", accepted.turn.epoch)
        self.publish_deltas(stream)
        return stream

    def publish_deltas(self, stream: LiveTurn, *texts: str, urgent: bool = False) -> None:
        """Publish deltas of the turn, after its first events if it has none."""
        if not stream.log.end:
            stream.publish([started(stream.turn), part(2, turn=stream.turn)])
        stream.publish([delta(stream.log.end + n, text, turn=stream.turn) for n, text in enumerate(texts, 1)])
        self.writer.mark_unwritten(stream, urgent=urgent)

    async def logged(self, turn: str = "t") -> list[int]:
        """Return the seqs of the events in the store's log."""
        entries = await self.store.log("ann", turn, 0)
        return [event.seq for entry in entries for event in decode_events(entry.payload)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the log writer during the block."""
        task = asyncio.get_running_loop().create_task(self.writer.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
def harness(store: ControlledStore, quick: None) -> WriterHarness:
    return WriterHarness(store, asyncio.TaskGroup())


async def test_a_failing_part_of_the_store_holds_up_only_its_turns(
    harness: WriterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The events of the other turns are stored. Those of the turns in that part are kept for the next flush, and
    `PartFailed` is raised."""
    streams = [await harness.stream(turn) for turn in ("t", "u")]
    append = harness.store.append

    async def partly(appends: list[Append]) -> list[Appended]:
        (stored,) = await append([one for one in appends if one.turn == "u"])
        return [stored if one.turn == "u" else Appended("unavailable", 0) for one in appends]

    with monkeypatch.context() as patched:
        patched.setattr(harness.store, "append", partly)
        with pytest.raises(PartFailed):
            await harness.writer.flush()
    assert [stream.stored_seq for stream in streams] == [0, 2]
    assert not harness.writer.is_reachable()
    await harness.writer.flush()
    assert [stream.stored_seq for stream in streams] == [2, 2]
    assert harness.writer.is_reachable()
    assert await harness.logged("t") == [1, 2]


@checks_time_limit
async def test_a_part_of_the_store_that_does_not_answer_delays_no_other_turn(
    harness: WriterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the call for one turn hangs or fails, again and again, the events of another one are logged in time (law 4)."""
    monkeypatch.setattr("gateway.turns.log_writer.RETRY_FIRST_S", 1)
    ill, well = [await harness.stream(turn) for turn in ("t", "u")]
    append = harness.store.append

    async def partly(appends: list[Append]) -> list[Appended]:
        stored = iter(await append([one for one in appends if one.turn == "u"]))
        if any(one.turn == "t" for one in appends):
            await asyncio.sleep(1)
        return [next(stored) if one.turn == "u" else Appended("unavailable", 0) for one in appends]

    with monkeypatch.context() as patched:
        patched.setattr(harness.store, "append", partly)
        async with harness.running():
            await eventually(lambda: well.stored_seq == 2)  # the first call is for both
            for seq in range(3, 12):
                harness.publish_deltas(ill, "ill")
                harness.publish_deltas(well, "well")
                with within(FLUSH_S + 0.3):
                    await eventually(partial(lambda seq: well.stored_seq == seq, seq))
            assert not harness.writer.is_reachable()
            assert ill.stored_seq == 0
    await harness.writer.flush()
    assert (ill.stored_seq, well.stored_seq) == (11, 11)
    assert harness.writer.is_reachable()


@checks_time_limit
async def test_published_events_are_logged_within_the_flush_interval(harness: WriterHarness) -> None:
    """All turns are written in one round trip within the interval, and an urgent first token at once."""
    streams = [await harness.stream(turn) for turn in ("t", "u")]
    async with harness.running():
        with within(FLUSH_S + 0.5):
            await eventually(lambda: all(stream.stored_seq == 2 for stream in streams))
        assert harness.store.calls.count("append") == 1
        harness.writer._flush_s = 60
        harness.publish_deltas(streams[0], "first", urgent=True)
        await eventually(lambda: streams[0].stored_seq == 3)
    assert await harness.logged() == [1, 2, 3]
    assert await harness.logged("u") == [1, 2]
    assert harness.states == []


async def test_a_flush_without_new_events_makes_no_call(harness: WriterHarness) -> None:
    """A turn without new events costs no round trip."""
    stream = await harness.stream()
    await harness.writer.flush()
    harness.writer.mark_unwritten(stream)
    await harness.writer.flush()
    assert harness.store.calls.count("append") == 1


async def test_an_outage_is_reported_and_the_log_catches_up(
    harness: WriterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream continues during the outage. `degraded` and `ok` are each reported once, and no event is missing or
    doubled."""
    monkeypatch.setattr("gateway.turns.log_writer.RETRY_FIRST_S", 0.001)
    monkeypatch.setattr("gateway.turns.log_writer.RETRY_MAX_S", 0.004)
    stream = await harness.stream()
    async with harness.running():
        with harness.store.failing("append"):
            await eventually(lambda: harness.store.calls.count("append") > 4)
            harness.publish_deltas(stream, "a", "b")
            with pytest.raises(StoreError):
                await harness.writer.flush()
            assert harness.writer.last_failure_at > 0
        await eventually(lambda: stream.stored_seq == 4)
    assert harness.states == [False, True]
    assert await harness.logged() == [1, 2, 3, 4]


async def test_a_short_outage_is_not_reported(harness: WriterHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage is measured from the start of the first failed call. A success in between starts the measurement
    again."""
    monkeypatch.setattr("gateway.turns.log_writer.DEGRADED_AFTER_S", 3.5)
    stream = await harness.stream()
    now = asyncio.get_running_loop().time()
    with harness.store.failing("append"), pytest.raises(StoreError):
        await harness.writer.flush()
    harness.writer.report_reachable(reachable=False, since=now - 60)  # the outage still began at the failed flush
    assert not harness.writer.is_reachable()
    assert harness.states == []
    await harness.writer.flush()
    assert stream.stored_seq == stream.log.end
    harness.writer.report_reachable(reachable=False, since=now - 60)
    assert harness.states == [False]


async def test_failing_appends_are_an_outage_despite_other_successes(
    harness: WriterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a full disk, lease renewals succeed, but clients are told that nothing is being stored."""
    monkeypatch.setattr("gateway.turns.log_writer.DEGRADED_AFTER_S", 0.2)
    await harness.stream()
    with harness.store.failing("append"):
        began = asyncio.get_running_loop().time()
        while not harness.states:
            assert asyncio.get_running_loop().time() - began < 5
            with pytest.raises(StoreError):
                await harness.writer.flush()
            harness.writer.report_reachable(reachable=True)
            await asyncio.sleep(0.05)
    assert harness.states == [False]
    await harness.writer.flush()
    assert harness.states == [False, True]


async def test_ok_is_reported_only_after_the_log_caught_up(
    harness: WriterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 4: a reachable store isn't enough. Events from the outage must be written first; newer events needn't be."""
    monkeypatch.setattr("gateway.turns.log_entries.APPEND_BYTES_MAX", 2000)
    stream = await harness.stream()
    harness.publish_deltas(stream, *["x" * 500] * 8)
    with harness.store.failing("append"), pytest.raises(StoreError):
        await harness.writer.flush()
    outage_end = stream.log.end
    harness.writer.report_reachable(reachable=True)
    assert harness.writer.is_reachable()
    while stream.stored_seq < outage_end:
        assert harness.states == [False]
        harness.publish_deltas(stream, "y" * 1000)
        await harness.writer.flush()
    assert stream.stored_seq < stream.log.end
    assert harness.states == [False, True]


@pytest.mark.parametrize("assumed_seq", [0, 1, 2])
async def test_a_flush_continues_at_the_end_of_the_stored_log(harness: WriterHarness, assumed_seq: int) -> None:
    """The writer recovers if an append was stored but seemed to fail, and if the store lost one."""
    stream = await harness.stream()
    await harness.writer.flush()
    harness.publish_deltas(stream, "a")
    stream.stored_seq = assumed_seq
    await harness.writer.flush()
    await harness.writer.flush()
    assert await harness.logged() == [1, 2, 3]
    harness.publish_deltas(stream, "b", "c", "d")
    if assumed_seq == 2:
        stream.stored_seq = 5
    for _ in range(2):
        await harness.writer.flush()
    assert await harness.logged() == [1, 2, 3, 4, 5, 6]


async def test_a_large_backlog_is_split_into_several_appends(
    harness: WriterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One append is bounded in bytes; the rest follows in the next ones."""
    monkeypatch.setattr("gateway.turns.log_entries.APPEND_BYTES_MAX", 2000)
    stream = await harness.stream()
    harness.publish_deltas(stream, *["x" * 500] * 20)
    async with harness.running():
        await eventually(lambda: stream.stored_seq == 22)
    assert await harness.logged() == list(range(1, 23))
    assert harness.store.calls.count("append") > 4


async def test_a_refused_append_stops_the_former_owner(harness: WriterHarness) -> None:
    """Law 9: an append that the store refuses stops the turn here. A refusal from before a newer takeover is
    ignored."""
    lost, again = await harness.stream("lost"), await harness.stream("again")
    for stream in (lost, again):
        await harness.store.claim("ann", stream.turn, "two", EPOCH + 1, 1000, force=True)
    with harness.store.blocked("append") as flushing:
        flush = asyncio.get_running_loop().create_task(harness.writer.flush())
        await flushing.wait()
        again.become_owner(EPOCH + 2)
    await flush
    assert lost.signal.abort_reason == Abort("lost")
    assert not again.signal.is_aborted


async def test_a_turn_missing_in_the_store_is_scheduled_for_restore(harness: WriterHarness) -> None:
    """If the store doesn't have a turn, the writer passes that turn to `schedule_restore`."""
    stream = LiveTurn("ann", "never", b"", EPOCH)
    missing: list[LiveTurn] = []
    harness.writer.schedule_restore = missing.append  # type: ignore[method-assign, assignment]
    harness.publish_deltas(stream)
    await harness.writer.flush()
    assert missing == [stream]


async def test_a_turn_of_an_erased_user_is_not_restored(
    harness: WriterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that began before its user was erased ends here without being stored again; a later one is restored."""
    erased_ms = 1_000_000  # by the store's clock, which may be years apart from the instance's
    await harness.store.put_ephemeral(erased_key("ann"), str(erased_ms).encode(), 60_000)
    before, later = stateless_turn("before", now_ms=EPOCH), stateless_turn("later", now_ms=EPOCH)
    clock = erased_ms

    async def clock_ms() -> int:
        return clock

    monkeypatch.setattr(harness.writer._store, "clock_ms", clock_ms, raising=False)
    for new in (before, later):
        live_turn = LiveTurn("ann", new.turn, b"", EPOCH)
        live_turn.set_acceptance(new, None)
        await harness.writer.restore(live_turn)
        assert live_turn.signal.abort_reason == (Abort("lost") if new is before else None)
        clock += 3_600_000
    assert await harness.store.running("ann", ["before", "later"]) == [None, True]


async def test_a_cancel_request_in_an_append_reply_is_applied(harness: WriterHarness) -> None:
    """Law 5: the store's reply to an append carries the stored cancel request. A stopped turn isn't aborted again."""
    stream = await harness.stream()
    cancel_request = Abort("client", "enough")
    await harness.store.request_cancel("ann", "t", JSON.encode(cancel_request))
    await harness.writer.flush()
    assert stream.signal.abort_reason == cancel_request
    other = await harness.stream("u")
    apply_cancel(other, None)
    other.stopped.set()
    apply_cancel(other, JSON.encode(cancel_request))
    assert not other.signal.is_aborted
