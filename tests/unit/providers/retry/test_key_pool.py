"""A provider's keys: taken in turn, a failing one rested, a failing provider left alone."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from providers.base import ProviderError
from providers.retry.breaker import Breakers
from providers.retry.key_pool import (
    RATE_LIMITED_COOLDOWN_S,
    REJECTED_COOLDOWN_S,
    CoolingDown,
    KeyCheckout,
    KeyPool,
    circuit_name,
)
from providers.route import Endpoint, Route
from tests.answers import route
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


def test_keys_are_taken_in_turn(clock: Clock) -> None:
    """Round and round, so that their limits are used alike."""
    pool = make_pool(clock, "one", "two", "three")
    assert [check_out_key(pool).value for _ in range(4)] == ["one", "two", "three", "one"]
    assert len(pool) == 3


def test_an_answer_in_the_background_has_the_first_key(clock: Clock) -> None:
    """Another instance may have to go on with it, and knows no other."""
    pool = make_pool(clock, "one", "two")
    check_out_key(pool)
    checkout = pool.check_out(route_to("m", background=True))
    assert isinstance(checkout, KeyCheckout)
    assert checkout.value == "one"
    checkout.record_failure(REJECTED)
    assert isinstance(pool.check_out(route_to("m", background=True)), CoolingDown)
    assert check_out_key(pool).value == "two"


def test_a_provider_without_a_key_has_an_empty_one(clock: Clock) -> None:
    """Ollama and its kin are asked like the others."""
    assert check_out_key(make_pool(clock)).value == ""


@pytest.mark.parametrize(
    ("error", "rest_s", "limited"),
    [
        (RATE_LIMITED, RATE_LIMITED_COOLDOWN_S, True),
        (ProviderError("upstream_rate_limited", "x", retryable=True, retry_after_ms=7000), 7, True),
        (NO_CREDIT, REJECTED_COOLDOWN_S, False),
        (REJECTED, REJECTED_COOLDOWN_S, False),
    ],
)
def test_a_failing_key_rests(clock: Clock, error: ProviderError, rest_s: float, limited: bool) -> None:
    """For as long as the provider says, or a while; only for the model that it was asked for."""
    pool = make_pool(clock, "one", "two")
    check_out_key(pool).record_failure(error)
    assert [check_out_key(pool).value for _ in range(3)] == ["two"] * 3
    check_out_key(pool).record_failure(error)
    rest = cooling_down(pool)
    assert (rest.wait_s, rest.is_rate_limited, rest.code) == (rest_s, limited, error.code)
    raised = rest.error()
    assert (raised.message, raised.retryable, raised.retry_after_ms) == (error.message, limited, rest_s * 1000)
    assert check_out_key(pool, "other").value in {"one", "two"}
    clock.now += rest_s
    assert check_out_key(pool).value


def test_the_key_that_will_do_first_tells_how_long(clock: Clock) -> None:
    """A limit passes; a refused key is worth no waiting while there is one with a limit."""
    pool = make_pool(clock, "one", "two", "three")
    for seconds in (9, 4):
        check_out_key(pool).record_failure(
            ProviderError("upstream_rate_limited", "x", retryable=True, retry_after_ms=seconds * 1000)
        )
    check_out_key(pool).record_failure(REJECTED)
    assert (cooling_down(pool).wait_s, cooling_down(pool).is_rate_limited) == (4, True)


def test_rather_a_refused_key_than_none(clock: Clock) -> None:
    """Where nothing else is left it is tried again, and has its place back if it works."""
    pool = make_pool(clock, "one")
    check_out_key(pool).record_failure(REJECTED)
    assert not cooling_down(pool).is_rate_limited
    second = pool.check_out(route_to("m"), allow_rejected=True)
    assert isinstance(second, KeyCheckout)
    second.record_success()
    assert check_out_key(pool).value == "one"
    check_out_key(pool).record_failure(RATE_LIMITED)
    assert isinstance(pool.check_out(route_to("m"), allow_rejected=True), CoolingDown), "a limit is obeyed"


def test_a_late_success_ends_no_limit(clock: Clock) -> None:
    """An answer that began before the limit was reached says nothing of it."""
    pool = make_pool(clock, "one")
    early = check_out_key(pool)
    check_out_key(pool).record_failure(RATE_LIMITED)
    early.record_success()
    assert cooling_down(pool).is_rate_limited


def test_a_failing_provider_is_left_alone(clock: Clock) -> None:
    """Each key has its circuit; when all are open nobody is asked, whatever the model."""
    pool = make_pool(clock, "one", "two")
    for _ in range(3):
        check_out_key(pool).record_failure(BROKEN)
    assert not pool.is_open
    check_out_key(pool).record_failure(BROKEN)
    assert pool.is_open
    for model in ("m", "other"):
        rest = cooling_down(pool, model)
        assert (rest.wait_s > 29, rest.is_rate_limited, rest.code) == (True, False, "upstream_error")
        assert rest.error().retryable
        assert "OpenAI has failed several times" in rest.message
    assert isinstance(pool.check_out(route_to("m"), allow_rejected=True), CoolingDown)


@pytest.mark.parametrize("error", [RATE_LIMITED, NO_CREDIT, REJECTED, INVALID])
def test_what_opens_no_circuit(clock: Clock, error: ProviderError) -> None:
    """A provider that refuses isn't broken."""
    pool = make_pool(clock, "one", failures_max=1)
    check_out_key(pool).record_failure(error)
    assert not pool.is_open


def test_a_circuit_is_named_without_its_key() -> None:
    """The same on every instance, another for each key and address, and neither can be read in it."""
    names = {circuit_name(ENDPOINT, key) for key in ENDPOINT.api_keys}
    assert len(names) == 3
    assert names == {circuit_name(ENDPOINT, key) for key in ENDPOINT.api_keys}
    elsewhere = Endpoint("openai", "OpenAI", "http://y/v1", (), ("one",))
    assert circuit_name(elsewhere, "one") not in names
    assert not any(secret in name for name in names for secret in ("one", "two", "http"))
