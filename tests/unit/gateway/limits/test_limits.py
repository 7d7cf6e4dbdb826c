"""Tests of the limits per user and address, and of the errors for requests over a limit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, get_args

import pytest

from gateway.limits.connections import ConnectionLimiter
from gateway.limits.limits import UNTHROTTLED, BodyMemory, Limits, limit_error, turn_limits
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from store.errors import Limited, LimitName
from store.records import TurnLimits
from store.sqlite.store import SqliteStore
from tests.credentials import SECRET
from tests.in_process import make_settings

ON: dict[str, Any] = {"auth": "jwt", "jwt_secret": SECRET}


def make_limits(**fields: Any) -> Limits:
    settings = make_settings(**{**ON, **fields})
    return Limits(settings, ConnectionLimiter(settings, SqliteStore(":memory:")), lambda: 1000.0)


def test_cancel_and_attach_are_never_rate_limited() -> None:
    """They don't count toward the rate limit. All other requests do, including an HTTP request without a frame type."""
    limits = make_limits(user_requests_burst=1)
    for _ in range(100):
        for kind in UNTHROTTLED:
            limits.check_request("ann", kind)
    limits.check_request("ann", p.Ping)
    counted: tuple[type[p.Request] | None, ...] = (p.TurnStart, p.TurnGet, None)
    for counted_kind in counted:
        with pytest.raises(ApiError) as error:
            limits.check_request("ann", counted_kind)
        assert (error.value.code, error.value.body.retryable) == ("rate_limited", True)
        assert error.value.body.retry_after_ms == 50
    assert set(UNTHROTTLED) == {p.TurnCancel, p.TurnAttach, p.ConversationAttach}


def test_an_erased_user_is_forgotten_by_every_limit() -> None:
    """The user's requests, large answers and loop time no longer count."""
    limits = make_limits(user_requests_burst=1)
    limits.check_request("ann", p.Ping)
    limits.large_answers.charge("ann", 2**30)
    limits.loop_time.charge("ann", 5)
    assert limits.is_over_rate("ann")
    assert limits.loop_time.delay_s("ann") > 0
    limits.forget("ann")
    assert not limits.is_over_rate("ann")
    limits.large_answers.check("ann")
    assert limits.loop_time.delay_s("ann") == 0


def test_large_bodies_share_one_memory_limit() -> None:
    """A body over the limit is refused with a retry time.

    A body of a frame's size is always accepted, and released memory can be used again.
    """
    body_memory = BodyMemory(1000, 100)
    body_memory.grow(0, 100)
    body_memory.grow(100, 600)
    body_memory.grow(0, 600)
    for _ in range(10):
        body_memory.grow(0, 100)
        with pytest.raises(ApiError) as refused:
            body_memory.grow(0, 101)
        assert (refused.value.code, refused.value.body.retry_after_ms) == ("rate_limited", 1000)
    body_memory.release(600)
    body_memory.release(100)
    body_memory.grow(0, 600)
    assert body_memory.free_bytes == 0


def test_with_auth_off_there_are_no_limits_per_user() -> None:
    """With auth off, all clients are one user. Budgets that are set still apply."""
    settings = make_settings(user_tokens_per_day=5)
    limits = Limits(settings, ConnectionLimiter(settings, SqliteStore(":memory:")))
    for _ in range(1000):
        limits.check_request("local", p.Ping)
    assert limits.turn_limits == TurnLimits(start_burst=41, tokens_per_day=5)


def test_the_stores_limits_are_those_of_the_settings() -> None:
    """The defaults and each setting are passed on. 0 means no limit."""
    settings = make_settings(**ON)
    stored = {"live_bytes": 64 * 2**20, "conversations": 10_000, "stored_bytes": 2**30}
    assert turn_limits(settings) == TurnLimits(running=8, live=72, start_interval_us=50_000, start_burst=41, **stored)
    none = {"user_live_bytes": 0, "user_conversations": 0, "user_stored_bytes": 0}
    unbounded = make_settings(**ON, user_running_turns=0, user_requests_per_s=0, **none)
    assert turn_limits(unbounded) == TurnLimits(start_burst=41)
    budgets = make_settings(user_cost_per_day=Decimal("1.5"), conversation_tokens=7)
    assert turn_limits(budgets) == TurnLimits(start_burst=41, cost_nano_per_day=1_500_000_000, conversation_tokens=7)


@pytest.mark.parametrize("limit", get_args(LimitName))
def test_each_limit_has_an_error(limit: LimitName) -> None:
    """The error code says whether waiting helps, and `retry_after_ms` says for how long. Only less helps with pins."""
    error = limit_error(Limited(limit, 5))
    assert error.code in ({"too_large"} if limit == "pinned" else {"rate_limited", "budget_exceeded"})
    assert error.body.retry_after_ms == 5
    assert limit_error(Limited(limit)).body.retry_after_ms is None
