"""Tests of the rate limit per user, counted at once in one instance and with a short delay across instances."""

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
    """A clock that shows the time that the test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_charged_requests_delay_later_ones() -> None:
    """Charges can exceed the burst, but the wait is bounded. Asking for the wait costs nothing."""
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


def test_a_burst_is_followed_by_a_steady_rate() -> None:
    """After a burst, one request is accepted per interval. Each user has their own rate limit."""
    clock = Clock()
    rate_limiter = RateLimiter(20, 40, clock)
    assert [rate_limiter.try_acquire("ann") for _ in range(42)] == [0] * 40 + [50, 50]
    assert rate_limiter.try_acquire("bob") == 0
    clock.now_s += 0.05
    assert [rate_limiter.try_acquire("ann") for _ in range(2)] == [0, 50]
    clock.now_s += 60
    assert [rate_limiter.try_acquire("ann") for _ in range(41)] == [0] * 40 + [50]


@given(st.floats(0.1, 1000), st.integers(1, 50), st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=100))
def test_a_request_after_the_given_wait_is_accepted(per_s: float, burst: int, gaps: list[float]) -> None:
    """For any intervals, a request after the given wait is accepted. The burst and the rate are never exceeded."""
    clock = Clock()
    rate_limiter = RateLimiter(per_s, burst, clock)
    began, accepted = clock.now_s, 0
    for gap in gaps:
        clock.now_s += gap
        wait_ms = rate_limiter.try_acquire("ann")
        if wait_ms:
            clock.now_s += wait_ms / 1000 + 1e-9
            assert rate_limiter.try_acquire("ann") == 0
        accepted += 1
        assert accepted <= burst + (clock.now_s - began) * per_s + 1e-6


def test_idle_users_are_removed() -> None:
    """At most `SWEEP_AT_USERS` users are kept, even if many send one request and leave."""
    clock = Clock()
    rate_limiter = RateLimiter(20, 40, clock)
    for number in range(10 * SWEEP_AT_USERS):
        clock.now_s += 0.01
        rate_limiter.try_acquire(f"user{number}")
    assert len(rate_limiter) <= SWEEP_AT_USERS


ONE_PER_HOUR = 1 / 3600


async def count_accepted(rate_limiter: RateLimiter, user: str) -> int:
    """Return how many requests are accepted."""
    count = 0
    while rate_limiter.try_acquire(user) == 0:
        count += 1
    return count


async def test_instances_share_their_counts_after_settling() -> None:
    """Requests accepted by one instance reduce what the other accepts.

    Other users, and a user of a single instance, aren't affected.
    """
    store = SqliteStore(":memory:")
    one, two = RateLimiter(ONE_PER_HOUR, 10), RateLimiter(ONE_PER_HOUR, 10)
    for _ in range(6):
        assert one.try_acquire("ann") == 0
    await one.settle(store)
    assert two.try_acquire("ann") == two.try_acquire("bob") == 0
    await two.settle(store)
    assert [await count_accepted(two, user) for user in ("ann", "bob")] == [3, 9]
    await two.settle(store)
    assert one.try_acquire("bob") == one.try_acquire("ann") == 0
    await one.settle(store)
    assert [await count_accepted(one, user) for user in ("ann", "bob")] == [0, 0]
    assert one.try_acquire("ann") > 3_600_000, "requests that both accepted at the same time count"


async def test_settling_does_not_slow_a_user_of_one_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often and whenever the instance settles, `retry_after_ms` stays right."""
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


async def test_requests_during_settling_are_counted(store: ControlledStore) -> None:
    """They are added to the count that the store returns."""
    one, two = RateLimiter(ONE_PER_HOUR, 10), RateLimiter(ONE_PER_HOUR, 10)
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
    assert await count_accepted(one, "ann") == 2


async def test_without_the_store_each_instance_counts_its_own_requests(
    store: ControlledStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that fails, or is known to be unreachable, changes nothing.

    Settling continues after the store is back.
    """
    monkeypatch.setattr(rate_limiter_module, "SETTLE_S", 0.001)
    one = RateLimiter(ONE_PER_HOUR, 10)
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
    assert await count_accepted(one, "ann") == 7
    two = RateLimiter(ONE_PER_HOUR, 10)
    two.try_acquire("ann")
    await two.settle(store.as_store)
    assert await count_accepted(two, "ann") == 8
