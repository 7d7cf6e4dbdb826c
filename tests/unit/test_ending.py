"""An ending's way: into the store first, then to whoever follows (law 3)."""

from __future__ import annotations

import asyncio
from typing import cast

import msgspec
import pytest

from gateway.abort import Abort
from gateway.delivery import Delivery
from gateway.ending import store_ending
from gateway.errors import ApiError
from gateway.events import Ending
from gateway.hub import Hub, TurnStream
from gateway.outcome import Outcome
from gateway.shapes import body_of
from providers.base import PartDelta, PartStarted, TextPart, Usage, UsageReported
from store.base import Accepted, Store
from tests.client import RequestFailed
from tests.in_process import Seat, SteeredStore
from tests.store_conformance import conversation, new_turn
from tests.turn_events import EPOCH, started

OUTCOMES = {
    "completed": Outcome("completed", finish_reason="length"),
    "cancelled": Outcome.from_abort(Abort("limit", "Too long.")),
    "failed": Outcome("failed", error=ApiError("upstream_timeout")),
    "failed without a word": Outcome("failed"),
}


async def accepted(steered: SteeredStore) -> tuple[TurnStream, Delivery, Accepted]:
    """A turn that has said something."""
    await steered.create_conversation(conversation())
    found = await steered.accept(new_turn("t", epoch=EPOCH))
    stream = TurnStream("ann", "t", b"", EPOCH, None)
    stream.model, stream.message = "demo", "t.answer"
    stream.publish([started("t")])
    delivery = Delivery(stream, 10**9, 0, found.turn.parent)
    delivery.deliver([PartStarted(0, "text"), PartDelta(0, "Hi"), UsageReported(Usage(3, 4))])
    return stream, delivery, found


def store_of(steered: SteeredStore) -> Store:
    return cast("Store", steered)


@pytest.mark.parametrize("name", OUTCOMES)
async def test_an_ending_is_stored_as_it_is_said(steered: SteeredStore, name: str) -> None:
    """Laws 2 and 3: the ending in the log and the one in the store are the same; the answer stands in the
    history."""
    stream, delivery, found = await accepted(steered)
    outcome = OUTCOMES[name]
    await store_ending(store_of(steered), Hub(60), stream, delivery, outcome)
    said = stream.log.events[-1]
    turn = await steered.turn("ann", "t")
    assert msgspec.json.decode(turn.ending or b"", type=Ending) == said
    assert (turn.status, turn.seq, stream.log.ended) == (outcome.status, said.seq, True)
    answer = await steered.message("ann", "t.answer")
    body = body_of(answer)
    assert (body.parts, body.model, body.usage, body.ended) == (
        [TextPart("Hi")],
        "demo",
        Usage(3, 4),
        outcome.status,
    )
    assert answer.parent == found.turn.parent
    assert (await steered.usage("ann", None, None)).output_tokens == 4


async def test_nobody_hears_of_an_ending_before_it_is_stored(
    steered: SteeredStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 3: while the store is away the ending waits, and is tried until it is stored; then it is said,
    once."""
    monkeypatch.setattr("gateway.ending.RETRY_FIRST_S", 0.001)
    monkeypatch.setattr("gateway.ending.RETRY_MAX_S", 0.002)
    stream, delivery, _ = await accepted(steered)
    with steered.failing("end", 5):
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            tasks.create_task(store_ending(store_of(steered), Hub(60), stream, delivery, OUTCOMES["completed"]))
            while steered.calls.count("end") < 6:
                assert not stream.log.ended
                await asyncio.sleep(0)
            assert not stream.log.ended
    assert steered.calls.count("end") == 6
    assert (stream.log.end, stream.log.ended) == (4, True)
    assert (await steered.turn("ann", "t")).status == "completed"


async def test_a_client_hears_the_ending_after_the_store_is_back(ann: Seat, steered: SteeredStore) -> None:
    """Laws 3 and 5: with the store away a cancel is answered at once, and the ending follows when it is
    stored."""
    with steered.failing("end"):
        await ann.start("t", demo={"rate": 100, "tokens": 1000})
        assert await ann.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
        assert await ann.request("turn.cancel", turn="t") == {"turns": {"t": "already_ended"}}
        assert ann.turns["t"].ended is None
        assert (await ann.request("turn.get", turn="t"))["status"] == "running"
    ending = await ann.ending("t")
    assert (await steered.message("ann", ending["message"])).role == "assistant"


async def test_a_turn_whose_record_is_gone_still_ends(steered: SteeredStore) -> None:
    """What isn't in the store any more can't be stored; who follows is told all the same."""
    stream, delivery, _ = await accepted(steered)
    stream.turn = "deleted"
    await store_ending(store_of(steered), Hub(60), stream, delivery, OUTCOMES["completed"])
    assert stream.log.ended


async def test_an_ending_without_events_is_only_stored(steered: SteeredStore) -> None:
    """Law 9: a turn of an earlier process has nobody here who follows it."""
    await accepted(steered)
    stream = TurnStream("ann", "t", b"", EPOCH, None)
    stream.message = "t.answer"
    delivery = Delivery(stream, 10**9, 0, None)
    await store_ending(store_of(steered), Hub(60), stream, delivery, OUTCOMES["failed"])
    assert stream.log.events == []
    assert (await steered.turn("ann", "t")).status == "failed"


async def test_deleting_waits_for_the_ending(ann: Seat, steered: SteeredStore) -> None:
    """A conversation is deleted after its running turns have ended, so that none writes into what is gone."""
    placed = await ann.start("t", demo={"rate": 100, "tokens": 1000})
    assert await ann.request("conversation.delete", conversation=placed["conversation"]) == {}
    ending = await ann.ending("t")
    assert (ending["type"], ending["reason"]) == ("turn.cancelled", "The conversation was deleted.")
    with pytest.raises(RequestFailed):
        await ann.request("conversation.get", conversation=placed["conversation"])
