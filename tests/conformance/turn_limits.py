"""The limits of running and waiting turns."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from store.api import Store
from store.errors import Limited
from store.records import DAY_MS, Accepted, Counters, TurnLimits
from tests.conformance.base import Conformance
from tests.stored import NOW, conversation, ending, limited, missing, new_turn, run, running, stateless_turn


class TurnLimitsOfUsers(Conformance):
    """The limits of running and waiting turns."""

    async def test_a_turn_beyond_the_limit_has_the_running_groups(self, store: Store) -> None:
        """The turn is accepted, and the result lists the groups of the user's earlier turns, which use up the limit.

        In a group, only one turn runs at a time. Here each turn is a group of its own, because none is queued in its
        conversation. Each user has their own limit.
        """
        limits = TurnLimits(running=2)
        first = await running(store, stateless_turn("a", limits=limits))
        assert (await store.accept(stateless_turn("b", limits=limits))).running_groups == ()
        assert (await store.accept(stateless_turn("c", limits=limits))).running_groups == (("a",), ("b",))
        assert (await store.accept(stateless_turn("d", limits=limits))).running_groups == (("a",), ("b",), ("c",))
        assert (await store.accept(stateless_turn("a", "bob", limits=limits))).running_groups == ()
        assert await store.running_groups("ann", "c", 2) == (("a",), ("b",))
        assert await store.running_groups("ann", "c", 3) == ()
        assert await store.running_groups("ann", "c", 0) == ()
        await store.end(ending(first))
        assert await store.running_groups("ann", "c", 2) == ()
        assert await store.running_groups("ann", "d", 2) == (("b",), ("c",))
        assert (await store.accept(stateless_turn("e"))).running_groups == ()

    async def test_turns_queued_in_a_conversation_are_one_group(self, store: Store) -> None:
        """A long queue in one conversation doesn't delay other conversations; a parallel turn is its own group."""
        limits = TurnLimits(running=3)
        for name in ("c1", "c2"):
            await store.create_conversation(conversation(name))
        first = await running(store, new_turn("a", on_busy="queue", limits=limits))
        for name in ("b", "c", "d"):
            assert (await store.accept(new_turn(name, on_busy="queue", limits=limits))).running_groups == ()
        await store.accept(new_turn("parallel", limits=limits))
        await store.accept(new_turn("elsewhere", conversation="c2", limits=limits))
        await store.accept(new_turn("last", limits=limits))
        groups = (("a", "b", "c", "d"), ("parallel",), ("elsewhere",))
        assert await store.running_groups("ann", "last", 3) == groups
        await store.end(ending(first))
        assert await store.running_groups("ann", "last", 3) == (("b", "c", "d"), ("parallel",), ("elsewhere",))

    async def test_live_turns_have_a_limit(self, store: Store) -> None:
        """A start beyond the limit is refused and stores nothing; a repeated start still returns its turn."""
        limits = TurnLimits(running=1, live=2)
        first = await running(store, stateless_turn("a", limits=limits))
        await store.accept(stateless_turn("b", limits=limits))
        assert await limited(store.accept(stateless_turn("c", limits=limits))) == ("live", None)
        assert await missing(store.turn("ann", "c")) == "turn"
        assert not (await store.accept(stateless_turn("b", limits=limits, message="other"))).is_new
        assert (await store.accept(stateless_turn("c", "bob", limits=limits))).is_new
        await store.end(ending(first))
        assert (await store.accept(stateless_turn("c", limits=limits))).is_new

    async def test_starts_have_a_rate_limit(self, store: Store) -> None:
        """After a burst, one start is accepted per interval. After the `retry_after_ms` of a refusal, the start is
        accepted. Refused starts aren't counted."""
        limits = TurnLimits(start_interval_us=60_000_000, start_burst=3)
        for name in ("a", "b", "c"):
            await store.accept(stateless_turn(name, limits=limits))
        for _ in range(3):
            limit, wait_ms = await limited(store.accept(stateless_turn("d", limits=limits)))
            assert limit == "starts"
            assert 30_000 < (wait_ms or 0) <= 60_000
        assert not (await store.accept(stateless_turn("a", limits=limits, message="other"))).is_new
        assert (await store.accept(stateless_turn("a", "bob", limits=limits))).is_new
        assert (await store.accept(stateless_turn("free"))).is_new
        limits = TurnLimits(start_interval_us=100_000, start_burst=1)
        for number in range(5):
            try:
                await store.accept(stateless_turn(f"c{number}", "cid", limits=limits))
            except Limited as refused:
                assert 0 < (refused.retry_after_ms or 0) <= 100
                await asyncio.sleep((refused.retry_after_ms or 0) / 1000)
                assert (await store.accept(stateless_turn(f"c{number}", "cid", limits=limits))).is_new

    async def test_a_refused_start_is_not_counted(self, store: Store) -> None:
        """The rate limit counts only accepted starts."""
        limits = TurnLimits(start_interval_us=60_000_000, start_burst=1)
        assert await missing(store.accept(new_turn(conversation="unknown", limits=limits))) == "conversation"
        assert (await store.accept(stateless_turn(limits=limits))).is_new

    @pytest.mark.parametrize(
        ("limits", "limit"),
        [
            (TurnLimits(tokens_per_day=6), "tokens_per_day"),
            (TurnLimits(cost_nano_per_day=12), "cost_per_day"),
        ],
    )
    async def test_a_budget_is_for_one_day(self, store: Store, limits: TurnLimits, limit: str) -> None:
        """The usage of ended turns counts until midnight UTC, to the millisecond; each user has their own budget."""
        midnight = (NOW // DAY_MS + 1) * DAY_MS
        await run(store, stateless_turn("a", limits=limits), now_ms=midnight - 5000)
        await run(store, stateless_turn("b", limits=limits, now_ms=midnight - 4000), now_ms=midnight - 3000)
        late = stateless_turn("c", limits=limits, now_ms=midnight - 2000)
        assert await limited(store.accept(late)) == (limit, 2000)
        assert await limited(store.accept(structs.replace(late, now_ms=midnight - 1))) == (limit, 1)
        assert (await store.accept(stateless_turn("c", "bob", limits=limits, now_ms=midnight - 2000))).is_new
        ended = await run(store, structs.replace(late, now_ms=midnight), now_ms=midnight + 1)
        await store.end(ended)
        await run(store, stateless_turn("d", limits=limits, now_ms=midnight + 2), now_ms=midnight + 3)
        assert await limited(store.accept(stateless_turn("e", limits=limits, now_ms=midnight + 10))) == (
            limit,
            DAY_MS - 10,
        )

    async def test_a_turn_belongs_to_the_day_of_its_ending(self, store: Store) -> None:
        """The usage of a turn that ends after midnight counts for the new day; a running turn isn't counted."""
        limits = TurnLimits(tokens_per_day=1)
        midnight = (NOW // DAY_MS + 1) * DAY_MS
        turn = await running(store, stateless_turn("a", limits=limits, now_ms=midnight - 10))
        await running(store, stateless_turn("b", limits=limits, now_ms=midnight - 9))
        await store.end(ending(turn, now_ms=midnight + 1, usage=Counters(1, 0)))
        assert await limited(store.accept(stateless_turn("c", limits=limits, now_ms=midnight + 2))) == (
            "tokens_per_day",
            DAY_MS - 2,
        )

    async def test_live_requests_have_a_byte_limit(self, store: Store) -> None:
        """The requests of all of a user's live turns count, including the new one; each user has their own limit."""
        limits = TurnLimits(live_bytes=1000)
        for n in range(2):
            turn = (await store.accept(stateless_turn(f"t{n}", request=b"x" * 450, limits=limits))).turn
        assert await limited(store.accept(stateless_turn("t2", request=b"x" * 101, limits=limits))) == (
            "live_bytes",
            None,
        )
        await store.accept(stateless_turn("t2", request=b"x" * 100, limits=limits))
        await store.accept(stateless_turn("t2", "bob", request=b"x" * 1000, limits=limits))
        await store.end(ending(turn))
        await store.accept(stateless_turn("t3", request=b"x" * 450, limits=limits))

    async def test_limits_hold_for_all_instances(self, store: Store, other: Store) -> None:
        """Of many concurrent starts on two instances, exactly as many are accepted as the limits allow."""
        limits = TurnLimits(running=3, live=5)
        new = [stateless_turn(f"t{n}", limits=limits) for n in range(20)]
        answers = await asyncio.gather(
            *((store, other)[n % 2].accept(one) for n, one in enumerate(new)), return_exceptions=True
        )
        accepted = [answer for answer in answers if isinstance(answer, Accepted)]
        assert sorted(len(answer.running_groups) for answer in accepted) == [0, 0, 0, 3, 4]
        assert sum(isinstance(answer, Limited) for answer in answers) == 15
