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


def breaker(clock: Clock, opened: list[Opening] | None = None) -> Breaker:
    return Breaker(3, 30, (opened if opened is not None else []).append, clock)


def fail(made: Breaker, times: int = 1) -> None:
    for _ in range(times):
        made.record_failure("upstream_overloaded", probe=made.acquire())


def test_it_opens_after_so_many_failures_in_a_row(clock: Clock) -> None:
    """A success in between begins the count anew; whoever opened it is told once."""
    opened: list[Opening] = []
    made = breaker(clock, opened)
    fail(made, 2)
    made.record_success()
    fail(made, 2)
    assert made.wait_s == 0
    fail(made)
    assert made.wait_s == 30
    assert [(one.open_ms, one.code) for one in opened] == [(30_000, "upstream_overloaded")]
    clock.now += 29
    assert made.wait_s == 1


def test_half_open_lets_one_probe_through(clock: Clock) -> None:
    """When its time is over one request may go, and all others wait for what it says."""
    made = breaker(clock)
    fail(made, 3)
    clock.now += 30
    assert made.wait_s == 0
    assert made.acquire()
    assert made.wait_s == PROBE_WAIT_S
    made.record_success()
    assert made.wait_s == 0
    assert not made.acquire()
    fail(made, 2)
    assert made.wait_s == 0, "a success has forgotten what was before"


def test_a_probe_that_fails_opens_it_again(clock: Clock) -> None:
    """One failure is enough then, and is told as a new opening."""
    opened: list[Opening] = []
    made = breaker(clock, opened)
    fail(made, 3)
    clock.now += 31
    fail(made)
    assert made.wait_s == 30
    assert len({one.id for one in opened}) == 2


def test_a_probe_that_says_nothing_leaves_room_for_the_next(clock: Clock) -> None:
    """Cancelled before any answer: the next request is the probe."""
    made = breaker(clock)
    fail(made, 3)
    clock.now += 30
    probe = made.acquire()
    made.release(probe=probe)
    assert made.wait_s == 0
    assert made.acquire()


def test_late_failures_change_nothing(clock: Clock) -> None:
    """What began before the circuit opened neither prolongs it nor takes the probe's place."""
    opened: list[Opening] = []
    made = breaker(clock, opened)
    late = made.acquire()
    fail(made, 3)
    clock.now += 30
    assert made.acquire()
    made.record_failure("upstream_timeout", probe=late)
    made.release(probe=late)
    assert made.wait_s == PROBE_WAIT_S
    assert len(opened) == 1


def test_what_another_instance_has_opened_is_open_here(clock: Clock) -> None:
    """Until its note is gone; then this instance probes for itself."""
    told: list[Opening] = []
    made = breaker(clock, told)
    other = Opening("a", 30_000, "upstream_timeout")
    made.apply_shared(other)
    assert made.wait_s == 30
    clock.now += 20
    made.apply_shared(other)
    assert made.wait_s == 10, "the same opening is known already"
    made.apply_shared(None)
    assert made.wait_s == 0
    assert made.acquire(), "half open"
    made.record_success()
    made.apply_shared(other)
    assert made.wait_s == 0, "its note may be a moment older than what was seen here"
    assert told == []


def test_its_own_opening_stays_while_the_store_knows_nothing(clock: Clock) -> None:
    """A store that lost the note, or hasn't got it yet, closes nothing."""
    made = breaker(clock)
    fail(made, 3)
    made.apply_shared(None)
    assert made.wait_s == 30


def test_all_of_a_process(clock: Clock) -> None:
    """One by each name; what opened here is kept until it is told, and isn't overruled before."""
    changes: list[str] = []
    all_of_them = Breakers(1, 30)
    all_of_them.on_change = lambda: changes.append("x")
    assert all_of_them.get("a") is all_of_them.get("a")
    all_of_them.get("b")
    fail(all_of_them.get("a"))
    assert (all_of_them.names(), list(all_of_them.unshared), changes) == (["a", "b"], ["a"], ["x"])
    all_of_them.apply_shared([("a", Opening("x", 1, "upstream_error")), ("b", Opening("y", 5000, "upstream_error"))])
    assert all_of_them.get("a").wait_s > 20
    assert 4 < all_of_them.get("b").wait_s <= 5
