"""What is kept for a time, and what is erased."""

from __future__ import annotations

import asyncio
import time

from store.api import Store, user_permits
from store.records import DAY_MS, Change, Counters, DayUsage, FeedbackFilter, TurnLimits
from tests.conformance.base import Conformance
from tests.in_time import check_in_time, checks_time_limit
from tests.stored import LONG_MS, NOW, conversation, ending, message, missing, new_turn, run, say, stateless_turn


class Retention(Conformance):
    """What is kept for a time, and what is erased."""

    async def test_a_conversation_has_the_retention_of_its_last_start(self, store: Store) -> None:
        """A conversation gets its retention when it is created, and each start gives it another or none."""
        created = await store.create_conversation(conversation(retention_days=7))
        assert created.retention_days == 7
        assert (
            await store.accept(new_turn("a", limits=TurnLimits(), retention_days=0))
        ).conversation.retention_days == 0  # type: ignore[union-attr]
        assert (await store.accept(new_turn("b", limits=TurnLimits()))).conversation.retention_days is None  # type: ignore[union-attr]
        await store.accept(new_turn("c", limits=TurnLimits(), retention_days=30))
        await store.accept(new_turn("again"))  # a turn that was lost is accepted again without limits
        await store.update_conversation("ann", "c1", Change(title="x"), NOW)
        await store.clear_conversation("ann", "c1", NOW)
        assert (await store.conversation("ann", "c1")).retention_days == 30
        assert (await store.conversations("ann", 9, None))[0][0].retention_days == 30
        new = conversation("c2", retention_days=5)
        await store.accept(
            new_turn("d", conversation=None, new_conversation=new, limits=TurnLimits(), retention_days=5)
        )
        assert (await store.conversation("ann", "c2")).retention_days == 5

    async def test_usage_is_summed_by_day(self, store: Store) -> None:
        """There is an entry for each UTC day on which a turn of the user ended, in a conversation or not."""
        today = NOW - NOW % DAY_MS
        await store.create_conversation(conversation())
        await run(store, new_turn("a"), now_ms=today - 1, usage=Counters(1, 2))
        await run(store, new_turn("b"), now_ms=today, usage=Counters(3, 4, cost_nano=2**52))
        await run(store, stateless_turn("c"), now_ms=today + DAY_MS - 1, usage=Counters(5, cost_nano=1))
        await run(store, stateless_turn("theirs", "bob"), now_ms=today)
        await store.delete_conversation("ann", "c1")
        assert await store.usage_days("ann") == [
            DayUsage(day_ms=today - DAY_MS, turns=1, usage=Counters(1, 2)),
            DayUsage(day_ms=today, turns=2, usage=Counters(8, 4, cost_nano=2**52 + 1)),
        ]
        assert await store.usage_days("nobody") == []

    async def test_an_erased_user_has_nothing_left(self, store: Store) -> None:
        """Everything of the user is gone, also a turn that still runs, and nothing of anybody else. Erasing again, or erasing
        an unknown user, is harmless. The user may begin again with the same ids."""
        for user in ("ann", "anna"):
            await store.create_conversation(conversation("c1", user, title="needle"))
            rated = await run(store, new_turn(f"{user}1", user))
            await say(store, "c1", "a needle", user=user)
            await store.put_feedback(user, rated.answer.id, "up", "a comment", NOW, "demo")
            await run(store, stateless_turn(f"{user}2", user))
            await store.accept(new_turn(f"{user}3", user, lease_ms=1))
            assert await store.put_ephemeral(f"ticket:{user}", b"x", LONG_MS, user) is None
            await store.put_ephemeral(f"other:{user}", b"x", LONG_MS)
            assert await store.acquire_permits("one", [(user_permits(user), 1)], LONG_MS) == [True]
        await asyncio.sleep(0.01)
        kept = await store.usage_days("anna")
        for user in ("ann", "ann", "nobody", "*", "ann*"):
            await store.erase_user(user)
        assert await store.conversations("ann", 9, None) == ([], False)
        assert await store.search("ann", "needle", 9, None) == ([], False)
        assert (await store.usage("ann", None, None), await store.usage_days("ann")) == (Counters(), [])
        assert await store.active("ann", None) == []
        assert await missing(store.message("ann", rated.answer.id)) == "message"
        assert await missing(store.turn("ann", "ann1")) == "turn"
        assert await store.log("ann", "ann1", 0) == []
        assert await store.expired_leases() == [("anna", "anna3")]
        assert [one.user for one in (await store.list_feedback(FeedbackFilter(), 9, None))[0]] == ["anna"]
        keys = ["ticket:ann", "other:ann", "ticket:anna", "other:anna"]
        assert await store.get_ephemeral(keys) == [None, b"x", b"x", b"x"]
        assert await store.acquire_permits("two", [(user_permits(user), 1) for user in ("ann", "anna")], LONG_MS) == [
            True,
            False,
        ]
        assert (await store.conversation("anna", "c1")).messages == 5
        assert len((await store.search("anna", "needle", 9, None))[0]) == 1
        assert (await store.usage_days("anna"), await store.active("anna", None)) == (kept, ["anna3"])
        await store.create_conversation(conversation(), TurnLimits(conversations=1, stored_bytes=100))
        await run(store, new_turn("ann1", limits=TurnLimits(stored_bytes=100)))
        assert (await store.conversation("ann", "c1")).messages == 2

    @checks_time_limit
    async def test_a_large_user_is_erased_in_steps(self, store: Store) -> None:
        """While much data is erased, the calls of other users run in between."""
        await store.create_conversation(conversation())
        await asyncio.gather(*(store.create_conversation(conversation(f"many{n}")) for n in range(300)))
        for start in range(0, 300, 100):
            turns = await asyncio.gather(*(store.accept(new_turn(f"t{n}")) for n in range(start, start + 100)))
            await asyncio.gather(
                *(store.end(ending(one.turn, answer=message(one.turn.message, body=b"x" * 20_000))) for one in turns)
            )
        await store.usage("ann", None, None)  # when it returns, a store with an archive has written everything
        erasure = asyncio.create_task(store.erase_user("ann"))
        erased_at, longest_s = time.perf_counter(), 0.0
        while not erasure.done():
            began = time.perf_counter()
            await store.usage("bob", None, None)
            longest_s = max(longest_s, time.perf_counter() - began)
        took_s = time.perf_counter() - erased_at
        await erasure
        assert await store.conversations("ann", 9, None) == ([], False)
        # An erasure in one step would delay a call for its whole duration. In steps, it delays a call for a part of it.
        check_in_time(longest_s, max(0.5, took_s / 5))
