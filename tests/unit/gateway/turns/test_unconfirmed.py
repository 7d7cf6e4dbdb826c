"""Laws 6 and 9: a start whose answer from the store was lost. No lease lapses here within a test's time."""

from __future__ import annotations

import pytest

from tests.demo import expected
from tests.in_process import Seat, eventually, open_instance, open_pair, open_store, seat

DEMO = {"rate": 0, "tokens": 5}
LONG_S = 3600.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at once."""
    monkeypatch.setattr("gateway.turns.starter.FIRST_CHECK_S", 0.01)


async def refused_start(client: Seat, turn: str, **fields: object) -> None:
    """The client is told to come again."""
    request = {"turn": turn, "input": "Hello", "params": {"demo": DEMO}, **fields}
    assert (await client.refused("turn.start", **request))["code"] == "store_unavailable"


async def test_it_goes_on_without_being_asked_again() -> None:
    """Whoever watches its conversation sees it from its first event to its ending."""
    async with open_store() as store, open_instance(store, lease_s=LONG_S) as instance:
        async with seat(instance.services) as ann:
            conversation = (await ann.request("conversation.create"))["id"]
            await ann.request("conversation.attach", conversation=conversation)
            with store.unanswered("accept"):
                await refused_start(ann, "t", conversation=conversation)
            assert (await ann.ending("t"))["type"] == "turn.completed"
            assert ann.turns["t"].text() == expected("Hello", DEMO)
            messages = (await ann.request("conversation.messages", conversation=conversation))["messages"]
            assert [one["role"] for one in messages] == ["user", "assistant"]


async def test_who_asks_again_hears_it() -> None:
    """Law 6: the same start again answers `attached`, at the same instance at once and at another one, and it runs once."""
    async with open_pair(lease_s=LONG_S) as (one, two), seat(one.services) as here, seat(two.services) as there:
        with one.store.unanswered("accept"):
            await refused_start(here, "t")
        for client in (here, there):
            assert (await client.start("t"))["status"] == "attached"
        for client in (here, there):
            assert (await client.ending("t"))["type"] == "turn.completed"
            assert client.turns["t"].text() == expected("Hello", DEMO)
        assert [*one.store.calls, *two.store.calls].count("claim") == 1


async def test_who_asks_again_while_the_store_is_still_away_hears_it_too() -> None:
    """Nobody could look meanwhile: the answer to the second start says whose turn it is."""
    async with open_store() as store, open_instance(store, lease_s=LONG_S) as instance:
        async with seat(instance.services) as ann:
            with store.blocked("turn") as looking:
                with store.unanswered("accept"):
                    await refused_start(ann, "t")
                await looking.wait()
                answer = ann.send("turn.start", turn="t", input="Hello", params={"demo": DEMO})
                await eventually(lambda: store.calls.count("accept") == 2)
            assert (await ann.answer(answer))["status"] == "attached"
            assert (await ann.ending("t"))["type"] == "turn.completed"


async def test_a_store_that_comes_back_later_is_asked_again() -> None:
    """It can't say at first whether it has the turn."""
    async with open_store() as store, open_instance(store, lease_s=LONG_S) as instance:
        async with seat(instance.services) as ann:
            with store.failing("turn", 3), store.unanswered("accept"):
                await refused_start(ann, "t")
                await eventually(lambda: store.calls.count("claim") == 1)
            await ann.request("turn.attach", turn="t")
            assert (await ann.ending("t"))["type"] == "turn.completed"


async def test_what_the_store_never_had_does_not_run() -> None:
    """The start was refused before it was stored: the id is free, and nothing is taken."""
    async with open_store() as store, open_instance(store, lease_s=LONG_S) as instance:
        async with seat(instance.services) as ann:
            with store.failing("accept", 1):
                await refused_start(ann, "t")
            await eventually(lambda: store.calls.count("turn") == 1)
            assert (await ann.refused("turn.get", turn="t"))["code"] == "not_found"
            assert (await ann.start("t"))["status"] == "running"
            assert "claim" not in store.calls
