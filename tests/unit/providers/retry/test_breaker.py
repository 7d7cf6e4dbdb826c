"""Circuit breakers: closed, open for a time, half open for one probe, and shared between instances."""

from __future__ import annotations

import pytest

from providers.retry.breaker import PROBE_WAIT_S, Breaker, Breakers, Opening


class Clock:
    """A clock that only advances when a test sets it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_breaker(clock: Clock, openings: list[Opening] | None = None) -> Breaker:
    return Breaker(3, 30, (openings if openings is not None else []).append, clock)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.record_failure("upstream_overloaded", probe=breaker.acquire())


def test_circuit_opens_after_consecutive_failures(clock: Clock) -> None:
    """A circuit opens after three consecutive failures. A success resets the count. The opening is reported once."""
    openings: list[Opening] = []
    breaker = make_breaker(clock, openings)
    fail(breaker, 2)
    breaker.record_success()
    fail(breaker, 2)
    assert breaker.wait_s == 0
    fail(breaker)
    assert breaker.wait_s == 30
    assert [(one.open_ms, one.code) for one in openings] == [(30_000, "upstream_overloaded")]
    clock.now += 29
    assert breaker.wait_s == 1


def test_half_open_circuit_allows_one_probe(clock: Clock) -> None:
    """After its open time, a half-open circuit lets one request through, and the others wait for its result."""
    breaker = make_breaker(clock)
    fail(breaker, 3)
    clock.now += 30
    assert breaker.wait_s == 0
    assert breaker.acquire()
    assert breaker.wait_s == PROBE_WAIT_S
    breaker.record_success()
    assert breaker.wait_s == 0
    assert not breaker.acquire()
    fail(breaker, 2)
    assert breaker.wait_s == 0, "a success resets the count"


def test_failed_probe_opens_the_circuit_again(clock: Clock) -> None:
    """A failed probe opens the circuit again, and this is reported as a new opening."""
    openings: list[Opening] = []
    breaker = make_breaker(clock, openings)
    fail(breaker, 3)
    clock.now += 31
    fail(breaker)
    assert breaker.wait_s == 30
    assert len({one.id for one in openings}) == 2


def test_cancelled_probe_allows_another(clock: Clock) -> None:
    """After a probe is cancelled before its result, the next request is the probe."""
    breaker = make_breaker(clock)
    fail(breaker, 3)
    clock.now += 30
    probe = breaker.acquire()
    breaker.release(probe=probe)
    assert breaker.wait_s == 0
    assert breaker.acquire()


def test_late_failures_are_ignored(clock: Clock) -> None:
    """A failure of a request from before the opening neither extends the open time nor ends the probe."""
    openings: list[Opening] = []
    breaker = make_breaker(clock, openings)
    late = breaker.acquire()
    fail(breaker, 3)
    clock.now += 30
    assert breaker.acquire()
    breaker.record_failure("upstream_timeout", probe=late)
    breaker.release(probe=late)
    assert breaker.wait_s == PROBE_WAIT_S
    assert len(openings) == 1


def test_opening_of_another_instance_applies_here(clock: Clock) -> None:
    """An opening of another instance applies here until it is removed from the store. Then this instance probes too."""
    openings: list[Opening] = []
    breaker = make_breaker(clock, openings)
    other = Opening("a", 30_000, "upstream_timeout")
    breaker.apply_shared(other)
    assert breaker.wait_s == 30
    clock.now += 20
    breaker.apply_shared(other)
    assert breaker.wait_s == 10, "the same opening isn't applied again"
    breaker.apply_shared(None)
    assert breaker.wait_s == 0
    assert breaker.acquire(), "half open"
    breaker.record_success()
    breaker.apply_shared(other)
    assert breaker.wait_s == 0, "the shared opening may be older than the success here"
    assert openings == []


def test_local_opening_stays_without_a_shared_one(clock: Clock) -> None:
    """A local opening stays if the store doesn't have it, because it was lost or isn't stored yet."""
    breaker = make_breaker(clock)
    fail(breaker, 3)
    breaker.apply_shared(None)
    assert breaker.wait_s == 30


def test_breakers_of_a_process(clock: Clock) -> None:
    """There is one breaker per name. An opening is kept until it is shared, and isn't replaced before that."""
    changes: list[str] = []
    breakers = Breakers(1, 30)
    breakers.on_change = lambda: changes.append("x")
    assert breakers.get("a") is breakers.get("a")
    breakers.get("b")
    fail(breakers.get("a"))
    assert (breakers.names(), list(breakers.unshared), changes) == (["a", "b"], ["a"], ["x"])
    breakers.apply_shared([("a", Opening("x", 1, "upstream_error")), ("b", Opening("y", 5000, "upstream_error"))])
    assert breakers.get("a").wait_s > 20
    assert 4 < breakers.get("b").wait_s <= 5
