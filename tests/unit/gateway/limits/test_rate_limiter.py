"""An even pace for each user, here at once and over the instances a moment later."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import rate_limiter as rate_limiter_module
from gateway.limits.rate_limiter import DEBT_MAX_S, SWEEP_AT_USERS, RateLimiter
from store.sqlite import ephemeral as ephemeral_module
from store.sqlite.store import SqliteStore
from tests.in_process import ControlledStore, eventually


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_what_is_charged_is_owed() -> None:
    """Also beyond the burst, but never for longer than so many seconds; asking how long costs nothing."""
    clock = Clock()
    rate_limiter = RateLimiter(20, 40, clock)
    assert [rate_limiter.wait_ms("ann") for _ in range(100)] == [0] * 100
    rate_limiter.charge("ann", 39)
    assert rate_limiter.wait_ms("ann") == 0
    rate_limiter.charge("ann", 11)
    assert rate_limiter.wait_ms("ann") == 550
    assert rate_limiter.try_acquire("ann") == 550
    assert rate_limiter.wait_ms("bob") == 0
    clock.now_s += 0.55
    assert rate_limiter.try_acquire("ann") == 0
    for count in (1000, 1000, 1):
        rate_limiter.charge("ann", count)
    assert DEBT_MAX_S * 1000 <= rate_limiter.wait_ms("ann") <= DEBT_MAX_S * 1000 + 100


def test_a_burst_and_then_a_pace() -> None:
    """So many at once, then one each interval; another key has its own."""
    clock = Clock()
    rate_limiter = RateLimiter(20, 40, clock)
    assert [rate_limiter.try_acquire("ann") for _ in range(42)] == [0] * 40 + [50, 50]
    assert rate_limiter.try_acquire("bob") == 0
    clock.now_s += 0.05
    assert [rate_limiter.try_acquire("ann") for _ in range(2)] == [0, 50]
    clock.now_s += 60
    assert [rate_limiter.try_acquire("ann") for _ in range(41)] == [0] * 40 + [50]


@given(st.floats(0.1, 1000), st.integers(1, 50), st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=100))
def test_who_waits_as_told_is_taken(per_s: float, burst: int, gaps: list[float]) -> None:
    """However they come: after the wait that was told the next is taken, and never more than the burst and the pace."""
    clock = Clock()
    rate_limiter = RateLimiter(per_s, burst, clock)
    began, taken = clock.now_s, 0
    for gap in gaps:
        clock.now_s += gap
        wait_ms = rate_limiter.try_acquire("ann")
        if wait_ms:
            clock.now_s += wait_ms / 1000 + 1e-9
            assert rate_limiter.try_acquire("ann") == 0
        taken += 1
        assert taken <= burst + (clock.now_s - began) * per_s + 1e-6


def test_paces_of_those_who_have_gone_are_forgotten() -> None:
    """A million users who came once take no memory."""
    clock = Clock()
    rate_limiter = RateLimiter(20, 40, clock)
    for number in range(10 * SWEEP_AT_USERS):
        clock.now_s += 0.01
        rate_limiter.try_acquire(f"user{number}")
    assert len(rate_limiter) <= SWEEP_AT_USERS


HOUR = 1 / 3600


async def taken(rate_limiter: RateLimiter, user: str) -> int:
    """How many are let through."""
    count = 0
    while rate_limiter.try_acquire(user) == 0:
        count += 1
    return count


async def test_instances_that_have_settled_count_together() -> None:
    """What one let through the other lets through no more; another user's is untouched, and so is who came alone."""
    store = SqliteStore(":memory:")
    one, two = RateLimiter(HOUR, 10), RateLimiter(HOUR, 10)
    for _ in range(6):
        assert one.try_acquire("ann") == 0
    await one.settle(store)
    assert two.try_acquire("ann") == two.try_acquire("bob") == 0
    await two.settle(store)
    assert [await taken(two, user) for user in ("ann", "bob")] == [3, 9]
    await two.settle(store)
    assert one.try_acquire("bob") == one.try_acquire("ann") == 0
    await one.settle(store)
    assert [await taken(one, user) for user in ("ann", "bob")] == [0, 0]
    assert one.try_acquire("ann") > 3_600_000, "what both let through at once is paid back"


async def test_settling_costs_who_is_at_one_instance_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often and whenever it settles, `retry_after_ms` stays right."""
    clock = Clock()
    monkeypatch.setattr(ephemeral_module, "time", SimpleNamespace(monotonic_ns=lambda: int(clock() * 1e9)))
    store, alone, settled = SqliteStore(":memory:"), RateLimiter(5, 3, clock), RateLimiter(5, 3, clock)
    waited = 0
    for n in range(300):
        waits = [rate_limiter.try_acquire("ann") for rate_limiter in (alone, settled)]
        assert waits[0] == waits[1]
        waited += bool(waits[0])
        if n % 3:
            await settled.settle(store)
        clock.now_s += n % 5 * 0.07
    assert 30 < waited < 270


async def test_what_comes_while_it_settles_counts(store: ControlledStore) -> None:
    """It is added to the store's answer, and told the next time."""
    one, two = RateLimiter(HOUR, 10), RateLimiter(HOUR, 10)
    for _ in range(4):
        two.try_acquire("ann")
    await two.settle(store.as_store)
    one.try_acquire("ann")
    async with asyncio.TaskGroup() as tasks:
        with store.blocked("count_requests") as entered:
            settling = tasks.create_task(one.settle(store.as_store))
            await entered.wait()
            for _ in range(3):
                one.try_acquire("ann")
        await settling
    assert await taken(one, "ann") == 2


async def test_without_the_store_each_counts_its_own(store: ControlledStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails, or that isn't worth asking, changes nothing, and settling goes on when it is back."""
    monkeypatch.setattr(rate_limiter_module, "SETTLE_S", 0.001)
    one = RateLimiter(HOUR, 10)
    reachable = False
    running = asyncio.get_running_loop().create_task(one.run(store.as_store, lambda: reachable))
    one.try_acquire("ann")
    await eventually(lambda: not one._unsettled)
    assert "count_requests" not in store.calls
    reachable = True
    with store.failing("count_requests"):
        one.try_acquire("ann")
        await eventually(lambda: not one._unsettled)
    one.try_acquire("ann")
    await eventually(lambda: not one._unsettled)
    running.cancel()
    await asyncio.wait([running])
    assert await taken(one, "ann") == 7
    two = RateLimiter(HOUR, 10)
    two.try_acquire("ann")
    await two.settle(store.as_store)
    assert await taken(two, "ann") == 8
