"""Laws 6 and 9: a start whose call to the store failed, so the gateway doesn't know whether its turn is stored.

The leases here are longer than any test, so no turn is taken over because its lease expired.
"""

from __future__ import annotations

import pytest

from tests.demo import expected
from tests.in_process import SessionClient, eventually, open_client, open_instance, open_pair, open_store

DEMO = {"rate": 0, "tokens": 5}
LONG_S = 3600.0


@pytest.fixture(autouse=True)
def check_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check unconfirmed starts almost at once."""
    monkeypatch.setattr("gateway.turns.starter.FIRST_CHECK_S", 0.01)


async def refused_start(client: SessionClient, turn: str, **fields: object) -> None:
    """Start a turn and expect `store_unavailable`."""
    request = {"turn": turn, "input": "Hello", "params": {"demo": DEMO}, **fields}
    assert (await client.refused("turn.start", **request))["code"] == "store_unavailable"


async def test_the_turn_runs_without_a_repeated_start() -> None:
    """A turn that was stored runs although its start was refused. A subscriber of the conversation receives it from its
    first event to its ending."""
    async with open_store() as store, open_instance(store, lease_s=LONG_S) as instance:
        async with open_client(instance.services) as ann:
            conversation = (await ann.request("conversation.create"))["id"]
            await ann.request("conversation.attach", conversation=conversation)
            with store.unanswered("accept"):
                await refused_start(ann, "t", conversation=conversation)
            assert (await ann.ending("t"))["type"] == "turn.completed"
            assert ann.turns["t"].text() == expected("Hello", DEMO)
            messages = (await ann.request("conversation.messages", conversation=conversation))["messages"]
            assert [one["role"] for one in messages] == ["user", "assistant"]


async def test_a_repeated_start_attaches() -> None:
    """Law 6: a repeated start is answered `attached`, at the same instance and at another one, and the turn runs
    once."""
    async with (
        open_pair(lease_s=LONG_S) as (one, two),
        open_client(one.services) as here,
        open_client(two.services) as there,
    ):
        with one.store.unanswered("accept"):
            await refused_start(here, "t")
        for client in (here, there):
            assert (await client.start("t"))["status"] == "attached"
        for client in (here, there):
            assert (await client.ending("t"))["type"] == "turn.completed"
            assert client.turns["t"].text() == expected("Hello", DEMO)
        assert [*one.store.calls, *two.store.calls].count("claim") == 1


async def test_a_repeated_start_during_the_outage_attaches_too() -> None:
    """A second start that comes while the check of the first one waits for the store is answered `attached`, and the turn
    runs."""
    async with open_store() as store, open_instance(store, lease_s=LONG_S) as instance:
        async with open_client(instance.services) as ann:
            with store.blocked("turn") as looking:
                with store.unanswered("accept"):
                    await refused_start(ann, "t")
                await looking.wait()
                answer = ann.send("turn.start", turn="t", input="Hello", params={"demo": DEMO})
                await eventually(lambda: store.calls.count("accept") == 2)
            assert (await ann.answer(answer))["status"] == "attached"
            assert (await ann.ending("t"))["type"] == "turn.completed"


async def test_the_check_is_repeated_until_the_store_answers() -> None:
    """If the store doesn't answer the first checks, a later one finds the turn."""
    async with open_store() as store, open_instance(store, lease_s=LONG_S) as instance:
        async with open_client(instance.services) as ann:
            with store.failing("turn", 3), store.unanswered("accept"):
                await refused_start(ann, "t")
                await eventually(lambda: store.calls.count("claim") == 1)
            await ann.request("turn.attach", turn="t")
            assert (await ann.ending("t"))["type"] == "turn.completed"


async def test_a_start_that_was_never_stored_does_not_run() -> None:
    """If the start failed before it was stored, its id is free, and no turn is claimed."""
    async with open_store() as store, open_instance(store, lease_s=LONG_S) as instance:
        async with open_client(instance.services) as ann:
            with store.failing("accept", 1):
                await refused_start(ann, "t")
            await eventually(lambda: store.calls.count("turn") == 1)
            assert (await ann.refused("turn.get", turn="t"))["code"] == "not_found"
            assert (await ann.start("t"))["status"] == "running"
            assert "claim" not in store.calls
