"""After a store came back empty, owners restore their turns, and no request is left without an answer (law 7)."""

from __future__ import annotations

import pytest

from gateway.turns.log_entries import decode_events
from store.sqlite.store import SqliteStore
from tests.demo import expected
from tests.in_process import ControlledStore, eventually, open_client, open_instance

DEMO = {"rate": 200, "tokens": 100}


@pytest.mark.parametrize("failing", [None, "accept"])
async def test_a_running_turn_is_restored(store: ControlledStore, failing: str | None) -> None:
    """It has the same ids, the whole log, and its answer in its conversation, even if the first restore fails."""
    empty = SqliteStore(":memory:")
    await empty.open()
    try:
        async with open_instance(store, lease_s=0.3) as instance, open_client(instance.services) as ann:
            result = await ann.start("t", demo=DEMO)
            await ann.until(lambda: ann.turns["t"].seq > 20)
            store.real = empty
            if failing is None:
                await ann.ending("t")
            else:
                with store.failing(failing, 1):
                    await eventually(lambda: store.calls.count("accept") > 2)
                await ann.ending("t")
            assert (ann.turns["t"].text(), ann.turns["t"].resets) == (expected("Hello", DEMO), 0)
            seqs = [e.seq for entry in await empty.log("ann", "t", 0) for e in decode_events(entry.payload)]
            assert seqs == list(range(1, ann.turns["t"].seq + 1))
            conversation = await empty.conversation("ann", result["conversation"])
            assert conversation.head == ann.turns["t"].frames[0]["message"]
    finally:
        store.real = empty
        await empty.close()


async def test_an_ended_turn_is_not_restored(store: ControlledStore) -> None:
    """Only running turns are restored. An attach to an ended turn that the store has lost is answered `not_found`."""
    empty = SqliteStore(":memory:")
    await empty.open()
    try:
        async with open_instance(store) as instance, open_client(instance.services) as ann:
            await ann.start("t")
            await ann.ending("t")
            store.real = empty
            instance.services.registry.remove(instance.stream("t"))
            answer = await ann.request("turn.attach", turn="t")
            assert answer["turns"]["t"]["error"]["code"] == "not_found"
    finally:
        await empty.close()


async def test_a_turn_lost_before_its_context_is_read_is_restored(store: ControlledStore) -> None:
    """If the store is rolled back to before the acceptance, the owner still has the turn, and it runs."""
    empty = SqliteStore(":memory:")
    await empty.open()
    try:
        async with open_instance(store, lease_s=30) as instance, open_client(instance.services) as ann:
            conversation = (await ann.request("conversation.create"))["id"]
            with store.failing("append"):  # otherwise the log's next flush may notice the loss first
                with store.failing("branch", 1):
                    await ann.start("t", conversation=conversation, demo=DEMO)
                    await eventually(lambda: "branch" in store.calls)
                    store.real = empty
                await ann.until(lambda: ann.turns["t"].seq > 5)
            assert (await ann.ending("t"))["type"] == "turn.completed"
            assert ann.turns["t"].text() == expected("Hello", DEMO)
            assert (await empty.turn("ann", "t")).status == "completed"
    finally:
        store.real = empty
        await empty.close()
