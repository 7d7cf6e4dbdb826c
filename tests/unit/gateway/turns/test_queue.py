"""What a turn waits for: other turns of its conversation, and the limit of its user's running turns."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.turns.live_turn import LiveTurn
from gateway.turns.queue import TurnQueue
from tests.credentials import SECRET
from tests.in_process import SLOW, ControlledStore, open_client, open_instance, open_pair, open_store

LIMITED: dict[str, Any] = {"auth": "jwt", "jwt_secret": SECRET, "user_running_turns": 2}


def streams(*names: str) -> list[LiveTurn]:
    return [LiveTurn("ann", name, b"", 1) for name in names]


async def test_the_position_is_the_number_of_turns_ahead() -> None:
    """All turns of the conversation must end, and enough slots must be free. A slot is occupied until all turns in it
    have ended."""
    a, b, c, d = streams("a", "b", "c", "d")
    assert TurnQueue().position() == 0
    assert TurnQueue([a, b]).position() == 2
    queue = TurnQueue([], [[a, b], [c], [d]], 2)
    assert queue.position() == 2
    a.end()
    assert queue.position() == 2
    b.end()
    assert queue.position() == 1
    d.end()
    assert queue.position() == 0
    assert TurnQueue([c], [[a], [b], [d]], 2).position() == 1
    assert queue.must_wait
    assert not TurnQueue().must_wait


async def test_turns_over_the_limit_wait_and_report_their_position() -> None:
    """The first two turns run. Each ending moves the queue by one, and the next turn runs."""
    async with open_store() as store, open_instance(store, **LIMITED) as one, open_client(one.services) as ann:
        for turn in ("a", "b"):
            assert (await ann.start(turn, demo=SLOW))["status"] == "running"
        for turn in ("c", "d", "e"):
            assert (await ann.start(turn))["status"] == "queued"
        async with open_client(one.services, user="bob") as bob:
            assert (await bob.start("x"))["status"] == "running"
            await bob.ending("x")
        await ann.until(lambda: all(ann.of(turn, "turn.status") for turn in "cde"))
        assert not any(ann.of(turn, "turn.part") for turn in "cde")
        await ann.request("turn.cancel", turn="d")
        await ann.until(lambda: ann.of("e", "turn.status")[-1].get("position") == 2)
        await ann.request("turn.cancel", turn="a")
        for turn in ("c", "e"):
            assert (await ann.ending(turn))["type"] == "turn.completed"
        statuses = {
            turn: [(frame["status"], frame.get("position")) for frame in ann.of(turn, "turn.status")] for turn in "cde"
        }
        assert statuses["c"] == [("queued", 1), ("running", None)]
        assert statuses["d"] == [("queued", 2)]
        assert statuses["e"][:2] == [("queued", 3), ("queued", 2)]
        assert statuses["e"][-1] == ("running", None)
        assert ann.turns["d"].ended is not None
        assert ann.turns["d"].ended["usage"] is None
        await ann.request("turn.cancel", turn="b")


async def test_a_slot_freed_on_one_instance_is_used_on_another() -> None:
    """The limit is the user's, not the instance's: an ending on one instance lets a turn run on the other."""
    async with (
        open_pair(lease_s=5, **LIMITED) as (one, two),
        open_client(one.services) as here,
        open_client(two.services) as there,
    ):
        await here.start("a", demo=SLOW)
        await there.start("b", demo=SLOW)
        assert (await there.start("c"))["status"] == "queued"
        assert (await here.start("d"))["status"] == "queued"
        await here.request("turn.cancel", turn="a")
        assert (await there.ending("c"))["type"] == "turn.completed"
        assert (await here.ending("d"))["type"] == "turn.completed"
        await there.request("turn.cancel", turn="b")


async def test_a_queued_turn_outlives_its_owner() -> None:
    """Law 9: the new owner keeps the turn's position in the queue, and runs it when the turns ahead have ended."""
    async with open_pair(**LIMITED) as (one, two), open_client(two.services) as there:
        for turn in ("a", "b"):
            await there.start(turn, demo=SLOW)
        async with open_client(one.services) as here:
            assert (await here.start("c"))["status"] == "queued"
            assert (await here.start("d"))["status"] == "queued"
            await here.until(lambda: here.of("d", "turn.status"))
        await one.kill()
        async with asyncio.timeout(10):
            while not all((stream := two.services.registry.get("ann", turn)) and stream.is_owned for turn in "cd"):
                await asyncio.sleep(0.02)
        for turn in ("c", "d"):
            await there.request("turn.attach", turn=turn)
        for turn, position in (("c", 1), ("d", 2)):
            await there.until(lambda: there.of(turn)[-1].get("position") == position)  # noqa: B023
        async with open_client(two.services, user="bob") as bob:
            await bob.start("meanwhile", demo={"rate": 50, "tokens": 20})
            await bob.ending("meanwhile")
        there.drain()
        assert not there.of("c", "turn.part")
        assert not there.of("d", "turn.part")
        await there.request("turn.cancel", turn="a")
        for turn in ("c", "d"):
            assert (await there.ending(turn))["type"] == "turn.completed"
        assert not there.of("b", "turn.cancelled")
        await there.request("turn.cancel", turn="b")


async def test_the_conversation_queue_and_the_user_queue_combine(store: ControlledStore) -> None:
    """A turn in both queues starts when both allow it. A turn that waits only for its conversation takes no slot."""
    async with open_instance(store, **LIMITED) as one, open_client(one.services) as ann:
        conversation = (await ann.start("a", demo=SLOW))["conversation"]
        await ann.start("after_a", conversation=conversation, on_busy="queue", demo=SLOW)
        assert (await ann.start("b", demo=SLOW))["status"] == "running"
        assert (await ann.start("c"))["status"] == "queued"
        await ann.request("turn.cancel", turn="a")
        await ann.until(lambda: ann.of("after_a", "turn.part"))
        assert not ann.of("c", "turn.part")
        await ann.request("turn.cancel", turn="b")
        assert (await ann.ending("c"))["type"] == "turn.completed"
        await ann.request("turn.cancel", turn="after_a")


async def test_a_full_queue_refuses_a_start() -> None:
    """Past the bound of queued turns a start is `rate_limited`, and its id is free again."""
    async with (
        open_store() as store,
        open_instance(store, **LIMITED, user_queued_turns=1) as one,
        open_client(one.services) as ann,
    ):
        for turn in ("a", "b", "c"):
            await ann.start(turn, demo=SLOW)
        refused = await ann.refused("turn.start", turn="d", input="x")
        assert (refused["code"], refused["retryable"]) == ("rate_limited", True)
        await ann.request("turn.cancel", turn="a")
        await ann.until(lambda: ann.turns["a"].ended)
        await ann.start("d")
        await ann.request("turn.cancel", mine=True)


@pytest.mark.parametrize("user_running_turns", [0, 64])
async def test_turns_below_the_limit_do_not_wait(user_running_turns: int) -> None:
    """There is no queue and no status below the limit, or without a limit."""
    settings = {**LIMITED, "user_running_turns": user_running_turns}
    async with open_store() as store, open_instance(store, **settings) as one, open_client(one.services) as ann:
        for number in range(12):
            assert (await ann.start(f"t{number}"))["status"] == "running"
            await ann.ending(f"t{number}")
            assert not ann.of(f"t{number}", "turn.status")
