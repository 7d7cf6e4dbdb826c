"""The run of a turn: handover, a cancel after a loss, and a queue across instances."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from gateway.turns.abort import Abort
from providers.base import ChatRequest, Delta, PartDelta, PartStarted
from tests.demo import expected
from tests.in_process import SLOW, Instance, eventually, open_client, open_pair
from tests.scripted import ScriptedProviders

Pair = tuple[Instance, Instance]


async def test_a_drain_hands_over_running_turns(quick: None) -> None:
    """A drain flushes and releases a running turn, and another instance continues it at once without a gap."""
    demo = {"rate": 200, "tokens": 150}
    async with (
        open_pair(lease_s=30) as (one, two),
        open_client(one.services) as here,
        open_client(two.services) as there,
    ):
        await here.start("t", demo=demo)
        await there.request("turn.attach", turn="t")
        await there.until(lambda: "t" in there.turns and there.turns["t"].seq > 20)
        await one.services.runner.drain(0.01)
        for client in (here, there):
            assert (await client.ending("t"))["type"] == "turn.completed"
            assert (client.turns["t"].text(), client.turns["t"].resets) == (expected("Hello", demo), 0)
        assert two.stream("t").is_owned


async def test_a_large_backlog_is_handed_over_completely(quick: None) -> None:
    """All published events are logged before the lease is released, however many appends that takes."""

    async def flood(request: ChatRequest) -> AsyncIterator[list[Delta]]:
        if not request.partial_answer:
            yield [PartStarted(0, "text"), *[PartDelta(0, "x" * 2000)] * 400]
        await asyncio.get_running_loop().create_future()

    async with (
        open_pair(ScriptedProviders(flood), lease_s=30, outbox_bytes=10**7) as (one, two),
        open_client(one.services) as here,
    ):
        with one.store.failing("append"):
            await here.start("t")
            await eventually(lambda: one.services.registry.get("ann", "t") and one.stream("t").log.end == 402)
            await eventually(lambda: one.durabilities)
        one.stream("t").signal.abort(Abort("handover"))
        await eventually(lambda: two.services.registry.get("ann", "t") is not None and two.stream("t").is_owned)
        await eventually(lambda: two.stream("t").log.end >= 403)
        assert two.stream("t").log.end == 403


async def test_a_handover_without_the_store_waits_for_the_lease(quick: None) -> None:
    """A lease that can't be released expires, and then the turn is taken over."""
    demo = {"rate": 100, "tokens": 100}
    async with open_pair(lease_s=0.3) as (one, two):
        async with open_client(one.services) as here:
            await here.start("t", demo=demo)
            await here.until(lambda: here.turns["t"].seq > 10)
            with one.store.failing("release"):
                one.stream("t").signal.abort(Abort("handover"))
                await eventually(lambda: not one.stream("t").is_owned)
            await one.kill()
        async with open_client(two.services) as there:
            await eventually(lambda: two.services.registry.get("ann", "t") is not None)
            await there.request("turn.attach", turn="t")
            await there.ending("t")
            assert there.turns["t"].text() == expected("Hello", demo)


async def test_a_cancel_of_a_lost_turn_reaches_the_new_owner(quick: None) -> None:
    """Law 5: if another instance took the turn over without this one's knowledge, the new owner cancels it."""
    async with open_pair(lease_s=30) as (one, two), open_client(one.services) as here:
        await here.start("t", demo=SLOW)
        with one.store.blocked("append") as flushing:
            await flushing.wait()
            await two.services.cancellation._takeover.take_over("ann", "t", force=True)
            assert await here.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
            assert (await here.ending("t"))["type"] == "turn.cancelled"
        assert (await two.store.turn("ann", "t")).status == "cancelled"


async def test_a_queue_includes_turns_of_other_instances(pair: Pair) -> None:
    """A turn queued after a turn of another instance starts when that one has ended, and follows its answer."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        conversation = (await here.start("a", demo={"rate": 100, "tokens": 30}))["conversation"]
        assert (await there.start("b", conversation=conversation, on_busy="queue"))["status"] == "queued"
        await there.ending("b")
        await here.ending("a")
        statuses = [(frame["status"], frame.get("position")) for frame in there.of("b", "turn.status")]
        assert statuses == [("queued", 1), ("running", None)]
        branch, _ = await two.store.branch("ann", conversation, there.turns["b"].frames[0]["message"])
        assert [record.turn for record in branch] == ["a", "a", "b", "b"]


async def test_a_queued_turn_holds_all_turns_ahead(pair: Pair) -> None:
    """The mirrors of the turns ahead are kept while the turn is queued, and released when it is cancelled."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        conversation = (await here.start("a", demo=SLOW))["conversation"]
        await here.start("b", conversation=conversation, demo=SLOW)
        await there.start("c", conversation=conversation, on_busy="queue")
        await there.until(lambda: there.of("c", "turn.status"))
        assert [two.stream(turn).waiters for turn in ("a", "b")] == [1, 1]
        await there.request("turn.cancel", turn="c")
        await there.ending("c")
        assert [two.stream(turn).waiters for turn in ("a", "b")] == [0, 0]
