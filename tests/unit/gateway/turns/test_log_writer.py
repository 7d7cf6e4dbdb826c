"""Law 4: said, then logged within the flush interval, however long the store was away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.protocol.codec import JSON
from gateway.turns.abort import Abort
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_entries import decode_events
from gateway.turns.log_writer import LogWriter, apply_cancel
from store.records import StoreError
from tests.in_process import SteeredStore, eventually
from tests.in_time import bounds_a_time, within
from tests.store_conformance import stateless_turn
from tests.turn_events import EPOCH, delta, part, started

FLUSH_S = 0.02


class Written:
    """A writer of the test's own, and what it said of the store."""

    def __init__(self, store: SteeredStore, tasks: asyncio.TaskGroup) -> None:
        self.store = store
        self.states: list[bool] = []
        self.writer = LogWriter(store.as_store, FLUSH_S, self.states.append, tasks)

    async def stream(self, turn: str = "t") -> LiveTurn:
        """An accepted turn that has begun."""
        accepted = await self.store.accept(stateless_turn(turn, epoch=EPOCH))
        stream = LiveTurn("ann", turn, b"digest", accepted.turn.epoch)
        self.say(stream)
        return stream

    def say(self, stream: LiveTurn, *texts: str, urgent: bool = False) -> None:
        """The turn says something."""
        if not stream.log.end:
            stream.publish([started(stream.turn), part(2, turn=stream.turn)])
        stream.publish([delta(stream.log.end + n, text, turn=stream.turn) for n, text in enumerate(texts, 1)])
        self.writer.mark_unwritten(stream, urgent=urgent)

    async def logged(self, turn: str = "t") -> list[int]:
        """The numbers of the events in the store's log."""
        entries = await self.store.log("ann", turn, 0)
        return [event.seq for entry in entries for event in decode_events(entry.payload)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While it runs."""
        task = asyncio.get_running_loop().create_task(self.writer.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
def written(steered: SteeredStore, quick: None) -> Written:
    return Written(steered, asyncio.TaskGroup())


@bounds_a_time
async def test_what_was_said_is_logged_in_time(written: Written) -> None:
    """All turns in one round trip, within the interval; a first token at once."""
    streams = [await written.stream(turn) for turn in ("t", "u")]
    async with written.running():
        with within(FLUSH_S + 0.5):
            await eventually(lambda: all(stream.stored_seq == 2 for stream in streams))
        assert written.store.calls.count("append") == 1
        written.writer._flush_s = 60
        written.say(streams[0], "first", urgent=True)
        await eventually(lambda: streams[0].stored_seq == 3)
    assert await written.logged() == [1, 2, 3]
    assert await written.logged("u") == [1, 2]
    assert written.states == []


async def test_nothing_new_is_no_call(written: Written) -> None:
    """A turn that says nothing costs no round trip."""
    stream = await written.stream()
    await written.writer.flush()
    written.writer.mark_unwritten(stream)
    await written.writer.flush()
    assert written.store.calls.count("append") == 1


async def test_a_store_that_is_away_is_said_and_caught_up_with(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream goes on; `degraded` and `ok` are said once each, and nothing is missing or doubled afterwards."""
    monkeypatch.setattr("gateway.turns.log_writer.RETRY_FIRST_S", 0.001)
    monkeypatch.setattr("gateway.turns.log_writer.RETRY_MAX_S", 0.004)
    stream = await written.stream()
    async with written.running():
        with written.store.failing("append"):
            await eventually(lambda: written.store.calls.count("append") > 4)
            written.say(stream, "a", "b")
            with pytest.raises(StoreError):
                await written.writer.flush()
            assert written.writer.last_failure_at > 0
        await eventually(lambda: stream.stored_seq == 4)
    assert written.states == [False, True]
    assert await written.logged() == [1, 2, 3, 4]


async def test_a_short_absence_is_nobodys_business(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts from the beginning of the first call that failed; an answer in between begins it anew."""
    monkeypatch.setattr("gateway.turns.log_writer.DEGRADED_AFTER_S", 3.5)
    stream = await written.stream()
    now = asyncio.get_running_loop().time()
    with written.store.failing("append"), pytest.raises(StoreError):
        await written.writer.flush()
    written.writer.report_reachable(reachable=False, since=now - 60)  # the first one counts
    assert not written.writer.is_reachable()
    assert written.states == []
    await written.writer.flush()
    assert stream.stored_seq == stream.log.end
    written.writer.report_reachable(reachable=False, since=now - 60)
    assert written.states == [False]


async def test_a_store_that_takes_no_log_is_away_whatever_else_it_answers(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: leases are renewed all the time, and yet clients hear that nothing is kept."""
    monkeypatch.setattr("gateway.turns.log_writer.DEGRADED_AFTER_S", 0.2)
    await written.stream()
    with written.store.failing("append"):
        began = asyncio.get_running_loop().time()
        while not written.states:
            assert asyncio.get_running_loop().time() - began < 5
            with pytest.raises(StoreError):
                await written.writer.flush()
            written.writer.report_reachable(reachable=True)
            await asyncio.sleep(0.05)
    assert written.states == [False]
    await written.writer.flush()
    assert written.states == [False, True]


async def test_all_is_well_only_when_the_log_has_caught_up(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 4: that the store answers again isn't enough; what was said meanwhile has to be written, new words have not."""
    monkeypatch.setattr("gateway.turns.log_entries.APPEND_BYTES_MAX", 2000)
    stream = await written.stream()
    written.say(stream, *["x" * 500] * 8)
    with written.store.failing("append"), pytest.raises(StoreError):
        await written.writer.flush()
    behind = stream.log.end
    written.writer.report_reachable(reachable=True)
    assert written.writer.is_reachable()
    while stream.stored_seq < behind:
        assert written.states == [False]
        written.say(stream, "y" * 1000)
        await written.writer.flush()
    assert stream.stored_seq < stream.log.end
    assert written.states == [False, True]


@pytest.mark.parametrize("believed", [0, 1, 2])
async def test_it_goes_on_from_where_the_log_ends(written: Written, believed: int) -> None:
    """A call that was stored though it seemed to fail, or one that the store has lost, mends itself."""
    stream = await written.stream()
    await written.writer.flush()
    written.say(stream, "a")
    stream.stored_seq = believed
    await written.writer.flush()
    await written.writer.flush()
    assert await written.logged() == [1, 2, 3]
    stream.stored_seq = 5 if believed == 2 else stream.stored_seq
    written.say(stream, "b", "c", "d")
    stream.stored_seq = min(stream.stored_seq, 5)
    for _ in range(2):
        await written.writer.flush()
    assert await written.logged() == [1, 2, 3, 4, 5, 6]


async def test_a_large_backlog_goes_in_pieces(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """One append is bounded; the rest follows with the next."""
    monkeypatch.setattr("gateway.turns.log_entries.APPEND_BYTES_MAX", 2000)
    stream = await written.stream()
    written.say(stream, *["x" * 500] * 20)
    async with written.running():
        await eventually(lambda: stream.stored_seq == 22)
    assert await written.logged() == list(range(1, 23))
    assert written.store.calls.count("append") > 4


async def test_a_former_owner_is_told(written: Written) -> None:
    """Law 9: what the store refuses stops the turn here; an answer from before it was taken again doesn't."""
    lost, again = await written.stream("lost"), await written.stream("again")
    for stream in (lost, again):
        await written.store.claim("ann", stream.turn, "two", EPOCH + 1, 1000, force=True)
    with written.store.blocked("append") as flushing:
        flush = asyncio.get_running_loop().create_task(written.writer.flush())
        await flushing.wait()
        again.become_owner(EPOCH + 2)
    await flush
    assert lost.signal.abort_reason == Abort("lost")
    assert not again.signal.is_aborted


async def test_a_turn_that_the_store_lost_is_reported(written: Written) -> None:
    """Who can make it anew is told."""
    stream = LiveTurn("ann", "never", b"", EPOCH)
    missing: list[LiveTurn] = []
    written.writer.schedule_restore = missing.append  # type: ignore[method-assign, assignment]
    written.say(stream)
    await written.writer.flush()
    assert missing == [stream]


async def test_a_wish_that_comes_with_an_answer_is_obeyed(written: Written) -> None:
    """Law 5: the store's answer to an append carries the stored wish; a stopped turn isn't stopped twice."""
    stream = await written.stream()
    wish = Abort("client", "enough")
    await written.store.request_cancel("ann", "t", JSON.encode(wish))
    await written.writer.flush()
    assert stream.signal.abort_reason == wish
    other = await written.stream("u")
    apply_cancel(other, None)
    other.stopped.set()
    apply_cancel(other, JSON.encode(wish))
    assert not other.signal.is_aborted
