"""An ending is stored first, and then published to attached clients (law 3)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
import pytest

from gateway.offload import LARGE_BYTES
from gateway.protocol.errors import ApiError
from gateway.protocol.events import Ending
from gateway.protocol.views import body_of
from gateway.telemetry.metrics import Telemetry
from gateway.turns.abort import Abort
from gateway.turns.endings import Endings
from gateway.turns.event_writer import EventWriter
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_entries import decode_events, unstored
from gateway.turns.log_writer import LogWriter
from gateway.turns.outcome import Outcome
from gateway.turns.turn_metrics import TurnMetrics
from providers.base import PartDelta, PartStarted, TextPart, Usage, UsageReported
from store.errors import StoreError
from store.records import Accepted
from store.sqlite.store import SqliteStore
from tests.client import RequestFailed
from tests.in_process import ControlledStore, SessionClient, eventually
from tests.stored import conversation, new_turn
from tests.turn_events import EPOCH, started

OUTCOMES = {
    "completed": Outcome("completed", finish_reason="length"),
    "cancelled": Outcome.from_abort(Abort("limit", "Too long.")),
    "failed": Outcome("failed", error=ApiError("upstream_timeout")),
    "failed without an error": Outcome("failed"),
}


async def accepted(store: ControlledStore, turn: str = "t") -> tuple[LiveTurn, EventWriter, Accepted]:
    """Accept a turn, publish the first events of its answer, and return it with its event writer and the acceptance."""
    with suppress(StoreError):
        await store.create_conversation(conversation())
    found = await store.accept(new_turn(turn, epoch=EPOCH))
    stream = LiveTurn("ann", turn, b"digest", EPOCH)
    stream.model, stream.message = "demo", f"{turn}.answer"
    stream.publish([started(turn)])
    event_writer = EventWriter(stream, 10**9, 10_000, found.turn.parent, TurnMetrics(Telemetry(())))
    event_writer.deliver([PartStarted(0, "text"), PartDelta(0, "Hi"), UsageReported(Usage(3, 4))])
    return stream, event_writer, found


async def end(store: ControlledStore, stream: LiveTurn, event_writer: EventWriter, outcome: Outcome) -> bool:
    """Store and publish an ending, as the turn's owner does."""
    async with asyncio.TaskGroup() as tasks:
        writer = LogWriter(store.as_store, 0.025, lambda _: None, tasks)
        return await Endings(store.as_store, writer).store(stream, event_writer, outcome)


@pytest.mark.parametrize("name", OUTCOMES)
async def test_the_stored_ending_equals_the_published_one(store: ControlledStore, name: str) -> None:
    """Laws 2 and 3: the published ending and the stored one are equal, and the answer and its usage are stored."""
    stream, event_writer, found = await accepted(store)
    outcome = OUTCOMES[name]
    assert await end(store, stream, event_writer, outcome)
    assert stream.stored_seq == stream.log.end
    published = stream.log.events[-1]
    turn = await store.turn("ann", "t")
    assert msgspec.json.decode(turn.ending or b"", type=Ending) == published
    assert (turn.status, turn.seq, stream.log.is_ended) == (outcome.status, published.seq, True)
    answer = await store.message("ann", "t.answer")
    body = body_of(answer)
    assert (body.parts, body.model, body.usage, body.ended) == (
        [TextPart("Hi")],
        "demo",
        Usage(3, 4),
        outcome.status,
    )
    for name in ("finish_reason", "by", "reason", "error", "timing"):
        assert getattr(body, name) == getattr(published, name, None), name
    assert answer.parent == found.turn.parent
    assert (await store.usage("ann", None, None)).output_tokens == 4


async def test_an_ending_is_published_only_after_it_is_stored(
    store: ControlledStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 3: while the store is unavailable, storing the ending is retried. Then the ending is published once."""
    monkeypatch.setattr("gateway.turns.endings.RETRY_FIRST_S", 0.001)
    monkeypatch.setattr("gateway.turns.endings.RETRY_MAX_S", 0.002)
    stream, event_writer, _ = await accepted(store)
    with store.failing("end", 5):
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            tasks.create_task(end(store, stream, event_writer, OUTCOMES["completed"]))
            while store.calls.count("end") < 6:
                assert not stream.log.is_ended
                await asyncio.sleep(0)
            assert not stream.log.is_ended
    assert store.calls.count("end") == 6
    assert (stream.log.end, stream.log.is_ended) == (4, True)
    assert (await store.turn("ann", "t")).status == "completed"


async def test_long_answers_are_stored_one_after_the_other(store: ControlledStore) -> None:
    """Long answers are stored one at a time, and a short answer doesn't wait for them."""
    turns = {name: await accepted(store, name) for name in ("long", "longer", "short")}
    for name in ("long", "longer"):
        turns[name][1].deliver([PartDelta(0, "x" * (LARGE_BYTES + 1))])
    async with asyncio.TaskGroup() as tasks:
        endings = Endings(store.as_store, LogWriter(store.as_store, 1, print, tasks))

        def begin(name: str) -> asyncio.Task[bool]:
            stream, event_writer, _ = turns[name]
            return tasks.create_task(endings.store(stream, event_writer, OUTCOMES["completed"]))

        with store.blocked("end") as reached:
            long, longer = begin("long"), begin("longer")
            await reached.wait()
            short = begin("short")
            await eventually(lambda: store.calls.count("end") == 2)
            for _ in range(10):
                await asyncio.sleep(0)
            assert store.calls.count("end") == 2
        assert [await long, await longer, await short] == [True] * 3
    assert store.calls.count("end") == 3


async def test_a_client_receives_the_ending_after_an_outage(ann: SessionClient, store: ControlledStore) -> None:
    """Laws 3 and 5: a cancel is answered at once while the store is unavailable. The ending follows when it is
    stored."""
    with store.failing("end"):
        await ann.start("t", demo={"rate": 100, "tokens": 1000})
        assert await ann.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
        assert await ann.request("turn.cancel", turn="t") == {"turns": {"t": "already_ended"}}
        assert ann.turns["t"].ended is None
        assert (await ann.request("turn.get", turn="t"))["status"] == "running"
    ending = await ann.ending("t")
    assert (await store.message("ann", ending["message"])).role == "assistant"


async def test_a_turn_whose_record_is_gone_still_ends(store: ControlledStore) -> None:
    """An ending whose turn is no longer in the store can't be stored, but it is published."""
    stream, event_writer, _ = await accepted(store)
    stream.turn = "deleted"
    assert await end(store, stream, event_writer, OUTCOMES["completed"])
    assert stream.log.is_ended


async def test_an_ending_of_a_former_owner_is_not_published(store: ControlledStore) -> None:
    """Laws 2 and 9: a turn that another instance has taken over gets no ending from its former owner."""
    stream, event_writer, _ = await accepted(store)
    assert await store.claim("ann", "t", "two", EPOCH + 1, 1000, force=True)
    assert not await end(store, stream, event_writer, OUTCOMES["completed"])
    assert not stream.log.is_ended
    assert (await store.turn("ann", "t")).status == "running"


async def test_an_ending_continues_at_the_end_of_the_stored_log(store: ControlledStore) -> None:
    """Law 3: there is no gap after a flush whose reply came late, or after the store lost its newest events."""
    for turn, is_logged, stored in (("a", True, 0), ("b", True, 1), ("c", True, 3), ("d", False, 3)):
        stream, event_writer, found = await accepted(store, turn)
        if is_logged:
            await store.append([unstored(stream)])
        stream.stored_seq = stored
        assert await end(store, stream, event_writer, OUTCOMES["completed"])
        entries = await store.log("ann", found.turn.turn, 0)
        assert [event.seq for entry in entries for event in decode_events(entry.payload)] == [1, 2, 3, 4]


async def test_an_ending_restores_a_lost_turn(store: ControlledStore) -> None:
    """Laws 3 and 7: if the store came back empty, an ending also restores the turn, its conversation and its log."""
    stream, event_writer, found = await accepted(store)
    stream.acceptance, stream.conversation_record = new_turn("t", epoch=EPOCH), found.conversation
    empty = SqliteStore(":memory:")
    await empty.open()
    try:
        assert await end(ControlledStore(empty), stream, event_writer, OUTCOMES["completed"])
        assert (await empty.turn("ann", "t")).status == "completed"
        assert body_of(await empty.message("ann", "t.answer")).parts == [TextPart("Hi")]
        assert (await empty.conversation("ann", "c1")).head == "t.answer"
        assert (await empty.log("ann", "t", 0))[-1].last == stream.log.end
    finally:
        await empty.close()


async def test_a_deletion_waits_for_the_ending(ann: SessionClient, store: ControlledStore) -> None:
    """A conversation is deleted after its running turns have ended, so that no turn writes to a deleted
    conversation."""
    result = await ann.start("t", demo={"rate": 100, "tokens": 1000})
    assert await ann.request("conversation.delete", conversation=result["conversation"]) == {}
    ending = await ann.ending("t")
    assert (ending["type"], ending["reason"]) == ("turn.cancelled", "The conversation was deleted.")
    with pytest.raises(RequestFailed):
        await ann.request("conversation.get", conversation=result["conversation"])
