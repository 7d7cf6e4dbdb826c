"""Circuit breakers: closed, open for a while, half open for one probe; and what instances tell each other."""

from __future__ import annotations

import pytest

from providers.retry.breaker import PROBE_WAIT_S, Breaker, Breakers, Opening


class Clock:
    """A time that stands still until it is told otherwise."""

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


def test_it_opens_after_so_many_failures_in_a_row(clock: Clock) -> None:
    """A success in between begins the count anew; whoever opened it is told once."""
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


def test_half_open_lets_one_probe_through(clock: Clock) -> None:
    """When its time is over one request may go, and all others wait for what it says."""
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
    assert breaker.wait_s == 0, "a success has forgotten what was before"


def test_a_probe_that_fails_opens_it_again(clock: Clock) -> None:
    """One failure is enough then, and is told as a new opening."""
    openings: list[Opening] = []
    breaker = make_breaker(clock, openings)
    fail(breaker, 3)
    clock.now += 31
    fail(breaker)
    assert breaker.wait_s == 30
    assert len({one.id for one in openings}) == 2


def test_a_probe_that_says_nothing_leaves_room_for_the_next(clock: Clock) -> None:
    """Cancelled before any answer: the next request is the probe."""
    breaker = make_breaker(clock)
    fail(breaker, 3)
    clock.now += 30
    probe = breaker.acquire()
    breaker.release(probe=probe)
    assert breaker.wait_s == 0
    assert breaker.acquire()


def test_late_failures_change_nothing(clock: Clock) -> None:
    """What began before the circuit opened neither prolongs it nor takes the probe's place."""
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


def test_what_another_instance_has_opened_is_open_here(clock: Clock) -> None:
    """Until its note is gone; then this instance probes for itself."""
    openings: list[Opening] = []
    breaker = make_breaker(clock, openings)
    other = Opening("a", 30_000, "upstream_timeout")
    breaker.apply_shared(other)
    assert breaker.wait_s == 30
    clock.now += 20
    breaker.apply_shared(other)
    assert breaker.wait_s == 10, "the same opening is known already"
    breaker.apply_shared(None)
    assert breaker.wait_s == 0
    assert breaker.acquire(), "half open"
    breaker.record_success()
    breaker.apply_shared(other)
    assert breaker.wait_s == 0, "its note may be a moment older than what was seen here"
    assert openings == []


def test_its_own_opening_stays_while_the_store_knows_nothing(clock: Clock) -> None:
    """A store that lost the note, or hasn't got it yet, closes nothing."""
    breaker = make_breaker(clock)
    fail(breaker, 3)
    breaker.apply_shared(None)
    assert breaker.wait_s == 30


def test_all_of_a_process(clock: Clock) -> None:
    """One by each name; what opened here is kept until it is told, and isn't overruled before."""
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
