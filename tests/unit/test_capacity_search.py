"""Tests of the search for the turns that a server carries, with servers of known capacities."""

from __future__ import annotations

from typing import Any

import pytest

from bench.capacity_search import PRECISION, capacity


@pytest.mark.parametrize(("within_10", "within_100"), [(0, 1), (3, 9), (10, 10), (75, 130), (400, 633), (600, 1200)])
async def test_the_capacity_within_each_limit_is_found(within_10: int, within_100: int) -> None:
    """What is found is at most the true capacity, and at least this without an eighth. No load is measured twice."""
    tried: list[int] = []

    async def measure(turns: int) -> dict[str, Any]:
        tried.append(turns)
        late = 1.0 if turns <= within_10 else 50.0 if turns <= within_100 else 5000.0
        return {"late_p99_ms": late, "tokens_per_cpu_s": 10 * turns, "delivered": 1.0}

    found = await capacity(measure, 2000)
    for limit, true in (("p99 <= 10 ms", within_10), ("p99 <= 100 ms", within_100)):
        turns = found[limit]["turns"]
        assert true - max(1, true / PRECISION) <= turns <= true
        assert found[limit]["tokens_per_cpu_s"] == 10 * turns
    assert len(tried) == len(set(tried)) <= 16
    assert list(found["loads"]) == [str(turns) for turns in sorted(tried)]


async def test_the_search_ends_at_the_largest_load() -> None:
    """A server that is faster than the largest load counts with the last load below it."""

    async def measure(turns: int) -> dict[str, Any]:
        return {"late_p99_ms": 1.0, "tokens_per_cpu_s": turns, "delivered": 1.0}

    assert (await capacity(measure, 100))["p99 <= 10 ms"]["turns"] == 80


async def test_a_server_that_is_stuck_carries_nothing() -> None:
    """No token is late if none arrives, so a load counts only if its tokens were delivered."""

    async def measure(turns: int) -> dict[str, Any]:
        stuck = turns > 20
        return {"late_p99_ms": 0.0 if stuck else 1.0, "tokens_per_cpu_s": turns, "delivered": 0.1 if stuck else 0.99}

    assert (await capacity(measure, 100))["p99 <= 100 ms"]["turns"] == 20


async def test_a_load_that_does_not_begin_is_not_carried() -> None:
    """An overloaded server may not begin all turns in time. The search goes on with smaller loads."""

    async def measure(turns: int) -> dict[str, Any]:
        if turns > 30:
            raise TimeoutError
        return {"late_p99_ms": 1.0, "tokens_per_cpu_s": turns, "delivered": 1.0}

    found = await capacity(measure, 1000)
    assert 27 <= found["p99 <= 100 ms"]["turns"] <= 30
    assert found["loads"]["40"]["delivered"] == 0
