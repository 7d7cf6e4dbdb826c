"""A provider's keys: used in rotation, put on cooldown after an error, and blocked by open circuits."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from providers.base import ProviderError
from providers.endpoint import Endpoint
from providers.retry.breaker import Breakers
from providers.retry.key_pool import (
    RATE_LIMITED_COOLDOWN_S,
    REJECTED_COOLDOWN_S,
    CoolingDown,
    KeyCheckout,
    KeyPool,
    circuit_name,
)
from providers.route import Route
from tests.provider_requests import route
from tests.unit.providers.retry.test_breaker import Clock

ENDPOINT = Endpoint("openai", "OpenAI", "http://x/v1", ("OPENAI_API_KEY",), ("one", "two", "three"))
RATE_LIMITED = ProviderError("upstream_rate_limited", "Too often.", retryable=True)
NO_CREDIT = ProviderError("upstream_rate_limited", "Out of credit.")
REJECTED = ProviderError("upstream_auth", "Wrong key.")
BROKEN = ProviderError("upstream_error", "It failed.", retryable=True)
INVALID = ProviderError("invalid_request", "What?")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def route_to(model: str, **quirks: Any) -> Route:
    return structs.replace(route(**quirks), model=model)


def make_pool(clock: Clock, *keys: str, failures_max: int = 2) -> KeyPool:
    endpoint = Endpoint("openai", "OpenAI", "http://x/v1", ("OPENAI_API_KEY",), keys)
    return KeyPool(endpoint, Breakers(failures_max, 30), clock)


def check_out_key(pool: KeyPool, model: str = "m") -> KeyCheckout:
    checkout = pool.check_out(route_to(model))
    assert isinstance(checkout, KeyCheckout)
    return checkout


def cooling_down(pool: KeyPool, model: str = "m") -> CoolingDown:
    checkout = pool.check_out(route_to(model))
    assert isinstance(checkout, CoolingDown)
    return checkout


def test_keys_are_rotated(clock: Clock) -> None:
    """Keys are used in rotation, so that their limits are used evenly."""
    pool = make_pool(clock, "one", "two", "three")
    assert [check_out_key(pool).value for _ in range(4)] == ["one", "two", "three", "one"]
    assert len(pool) == 3


def test_background_response_uses_the_first_key(clock: Clock) -> None:
    """A background response always uses the first key, because another instance may have to continue it."""
    pool = make_pool(clock, "one", "two")
    check_out_key(pool)
    checkout = pool.check_out(route_to("m", background=True))
    assert isinstance(checkout, KeyCheckout)
    assert checkout.value == "one"
    checkout.record_failure(REJECTED)
    assert isinstance(pool.check_out(route_to("m", background=True)), CoolingDown)
    assert check_out_key(pool).value == "two"


def test_provider_without_keys(clock: Clock) -> None:
    """A provider without keys, such as Ollama, has one empty key."""
    assert check_out_key(make_pool(clock)).value == ""


@pytest.mark.parametrize(
    ("error", "cooldown_s", "limited"),
    [
        (RATE_LIMITED, RATE_LIMITED_COOLDOWN_S, True),
        (ProviderError("upstream_rate_limited", "x", retryable=True, retry_after_ms=7000), 7, True),
        (NO_CREDIT, REJECTED_COOLDOWN_S, False),
        (REJECTED, REJECTED_COOLDOWN_S, False),
    ],
)
def test_failing_key_cools_down(clock: Clock, error: ProviderError, cooldown_s: float, limited: bool) -> None:
    """A failing key cools down for the provider's retry delay or a default time, and only for the requested model."""
    pool = make_pool(clock, "one", "two")
    check_out_key(pool).record_failure(error)
    assert [check_out_key(pool).value for _ in range(3)] == ["two"] * 3
    check_out_key(pool).record_failure(error)
    cooling = cooling_down(pool)
    assert (cooling.wait_s, cooling.is_rate_limited, cooling.code) == (cooldown_s, limited, error.code)
    raised = cooling.error()
    assert (raised.message, raised.retryable, raised.retry_after_ms) == (error.message, limited, cooldown_s * 1000)
    assert check_out_key(pool, "other").value in {"one", "two"}
    clock.now += cooldown_s
    assert check_out_key(pool).value


def test_wait_for_the_first_rate_limit_to_end(clock: Clock) -> None:
    """The wait lasts until the first rate limit ends, even if the cooldown of a rejected key ends earlier."""
    pool = make_pool(clock, "one", "two", "three")
    for seconds in (90, 70):
        check_out_key(pool).record_failure(
            ProviderError("upstream_rate_limited", "x", retryable=True, retry_after_ms=seconds * 1000)
        )
    check_out_key(pool).record_failure(REJECTED)
    assert (cooling_down(pool).wait_s, cooling_down(pool).is_rate_limited) == (70, True)


def test_rejected_key_is_tried_if_no_other_is_left(clock: Clock) -> None:
    """If no other key is left, a rejected key may be tried again. Its success ends the cooldown."""
    pool = make_pool(clock, "one")
    check_out_key(pool).record_failure(REJECTED)
    assert not cooling_down(pool).is_rate_limited
    second = pool.check_out(route_to("m"), allow_rejected=True)
    assert isinstance(second, KeyCheckout)
    second.record_success()
    assert check_out_key(pool).value == "one"
    check_out_key(pool).record_failure(RATE_LIMITED)
    assert isinstance(pool.check_out(route_to("m"), allow_rejected=True), CoolingDown), "a rate limit is respected"


def test_late_success_does_not_end_a_rate_limit(clock: Clock) -> None:
    """The success of a request from before the rate limit doesn't end the limit."""
    pool = make_pool(clock, "one")
    early = check_out_key(pool)
    check_out_key(pool).record_failure(RATE_LIMITED)
    early.record_success()
    assert cooling_down(pool).is_rate_limited


def test_no_key_is_used_while_all_circuits_are_open(clock: Clock) -> None:
    """Each key has its own circuit. If all are open, no key is used for any model."""
    pool = make_pool(clock, "one", "two")
    for _ in range(3):
        check_out_key(pool).record_failure(BROKEN)
    assert not pool.is_open
    check_out_key(pool).record_failure(BROKEN)
    assert pool.is_open
    for model in ("m", "other"):
        cooling = cooling_down(pool, model)
        assert (cooling.wait_s > 29, cooling.is_rate_limited, cooling.code) == (True, False, "upstream_error")
        assert cooling.error().retryable
        assert "OpenAI has failed several times" in cooling.message
    assert isinstance(pool.check_out(route_to("m"), allow_rejected=True), CoolingDown)


@pytest.mark.parametrize("error", [RATE_LIMITED, NO_CREDIT, REJECTED, INVALID])
def test_errors_that_open_no_circuit(clock: Clock, error: ProviderError) -> None:
    """A provider that rejects a request isn't broken, so its circuit stays closed."""
    pool = make_pool(clock, "one", failures_max=1)
    check_out_key(pool).record_failure(error)
    assert not pool.is_open


def test_circuit_name_does_not_reveal_the_key() -> None:
    """The name of a circuit is the same on every instance, differs by key and URL, and reveals neither."""
    names = {circuit_name(ENDPOINT, key) for key in ENDPOINT.api_keys}
    assert len(names) == 3
    assert names == {circuit_name(ENDPOINT, key) for key in ENDPOINT.api_keys}
    elsewhere = Endpoint("openai", "OpenAI", "http://y/v1", (), ("one",))
    assert circuit_name(elsewhere, "one") not in names
    assert not any(secret in name for name in names for secret in ("one", "two", "http"))
