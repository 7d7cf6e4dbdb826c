"""Paces, places and refusals: what one user and one address may have."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import protocol as p
from gateway.errors import ApiError
from gateway.limits import PACES_SWEPT_AT, UNTHROTTLED, Limits, Pace, refused, turn_limits
from gateway.sockets.places import Places
from store.base import Limited, LimitName, TurnLimits
from store.embedded import EmbeddedStore
from tests.credentials import SECRET
from tests.in_process import make_settings

ON: dict[str, Any] = {"auth": "jwt", "jwt_secret": SECRET}


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def limits(clock: Clock | None = None, **fields: Any) -> Limits:
    settings = make_settings(**{**ON, **fields})
    return Limits(settings, Places(settings, EmbeddedStore(":memory:")), clock or Clock())


def test_a_burst_and_then_a_pace() -> None:
    """So many at once, then one each interval; another key has its own."""
    clock = Clock()
    pace = Pace(20, 40, clock)
    assert [pace.take("ann") for _ in range(42)] == [0] * 40 + [50, 50]
    assert pace.take("bob") == 0
    clock.now_s += 0.05
    assert [pace.take("ann") for _ in range(2)] == [0, 50]
    clock.now_s += 60
    assert [pace.take("ann") for _ in range(41)] == [0] * 40 + [50]


@given(st.floats(0.1, 1000), st.integers(1, 50), st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=100))
def test_who_waits_as_told_is_taken(per_s: float, burst: int, gaps: list[float]) -> None:
    """However they come: after the wait that was told the next is taken, and never more than the burst and the pace."""
    clock = Clock()
    pace = Pace(per_s, burst, clock)
    began, taken = clock.now_s, 0
    for gap in gaps:
        clock.now_s += gap
        wait_ms = pace.take("ann")
        if wait_ms:
            clock.now_s += wait_ms / 1000 + 1e-9
            assert pace.take("ann") == 0
        taken += 1
        assert taken <= burst + (clock.now_s - began) * per_s + 1e-6


def test_paces_of_those_who_have_gone_are_forgotten() -> None:
    """A million users who came once take no memory."""
    clock = Clock()
    pace = Pace(20, 40, clock)
    for number in range(10 * PACES_SWEPT_AT):
        clock.now_s += 0.01
        pace.take(f"user{number}")
    assert len(pace) <= PACES_SWEPT_AT


def test_stopping_and_attaching_are_never_throttled() -> None:
    """And cost nothing; everything else counts, an HTTP request without a frame's type too."""
    made = limits(user_requests_burst=1)
    for _ in range(100):
        for kind in UNTHROTTLED:
            made.check_request("ann", kind)
    made.check_request("ann", p.Ping)
    counted: tuple[type[p.Request] | None, ...] = (p.TurnStart, p.TurnGet, None)
    for other in counted:
        with pytest.raises(ApiError) as error:
            made.check_request("ann", other)
        assert (error.value.code, error.value.body.retryable) == ("rate_limited", True)
        assert error.value.body.retry_after_ms == 50
    assert set(UNTHROTTLED) == {p.TurnCancel, p.TurnAttach, p.ConversationAttach}


def test_with_auth_off_nothing_is_counted_by_user_or_address() -> None:
    """Everyone is one user there; budgets that are set hold all the same."""
    settings = make_settings(user_tokens_per_day=5)
    made = Limits(settings, Places(settings, EmbeddedStore(":memory:")))
    for _ in range(1000):
        made.check_request("local", p.Ping)
    assert made.turns == TurnLimits(start_burst=40, tokens_per_day=5)


def test_what_the_store_checks_is_what_is_set() -> None:
    """The defaults, and each of them as it is set; 0 is no limit."""
    settings = make_settings(**ON)
    assert turn_limits(settings) == TurnLimits(running=8, live=72, start_interval_us=50_000, start_burst=40)
    assert turn_limits(make_settings(**ON, user_running_turns=0, user_requests_per_s=0)) == TurnLimits(start_burst=40)
    budgets = make_settings(user_cost_per_day=Decimal("1.5"), conversation_tokens=7)
    assert turn_limits(budgets) == TurnLimits(start_burst=40, cost_nano_per_day=1_500_000_000, conversation_tokens=7)


@pytest.mark.parametrize("limit", get_args(LimitName))
def test_each_limit_has_its_sentence(limit: LimitName) -> None:
    """A code that says whether waiting helps, and for how long."""
    error = refused(Limited(limit, 5))
    assert error.code in {"rate_limited", "budget_exceeded"}
    assert error.body.retry_after_ms == 5
    assert refused(Limited(limit)).body.retry_after_ms is None
