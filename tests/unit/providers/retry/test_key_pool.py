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
LIMITED = ProviderError("upstream_rate_limited", "Too often.", retryable=True)
NO_CREDIT = ProviderError("upstream_rate_limited", "Out of credit.")
REFUSED = ProviderError("upstream_auth", "Wrong key.")
BROKEN = ProviderError("upstream_error", "It failed.", retryable=True)
ODD = ProviderError("invalid_request", "What?")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def to(model: str, **quirks: Any) -> Route:
    return structs.replace(route(**quirks), model=model)


def ring(clock: Clock, *keys: str, failures_max: int = 2) -> KeyPool:
    endpoint = Endpoint("openai", "OpenAI", "http://x/v1", ("OPENAI_API_KEY",), keys)
    return KeyPool(endpoint, Breakers(failures_max, 30), clock)


def loan(of: KeyPool, model: str = "m") -> KeyCheckout:
    taken = of.check_out(to(model))
    assert isinstance(taken, KeyCheckout)
    return taken


def resting(of: KeyPool, model: str = "m") -> CoolingDown:
    taken = of.check_out(to(model))
    assert isinstance(taken, CoolingDown)
    return taken


def test_keys_are_taken_in_turn(clock: Clock) -> None:
    """Round and round, so that their limits are used alike."""
    keys = ring(clock, "one", "two", "three")
    assert [loan(keys).value for _ in range(4)] == ["one", "two", "three", "one"]
    assert len(keys) == 3


def test_an_answer_in_the_background_has_the_first_key(clock: Clock) -> None:
    """Another instance may have to go on with it, and knows no other."""
    keys = ring(clock, "one", "two")
    loan(keys)
    taken = keys.check_out(to("m", background=True))
    assert isinstance(taken, KeyCheckout)
    assert taken.value == "one"
    taken.record_failure(REFUSED)
    assert isinstance(keys.check_out(to("m", background=True)), CoolingDown)
    assert loan(keys).value == "two"


def test_a_provider_without_a_key_has_an_empty_one(clock: Clock) -> None:
    """Ollama and its kin are asked like the others."""
    assert loan(ring(clock)).value == ""


@pytest.mark.parametrize(
    ("error", "rest_s", "limited"),
    [
        (LIMITED, RATE_LIMITED_COOLDOWN_S, True),
        (ProviderError("upstream_rate_limited", "x", retryable=True, retry_after_ms=7000), 7, True),
        (NO_CREDIT, REJECTED_COOLDOWN_S, False),
        (REFUSED, REJECTED_COOLDOWN_S, False),
    ],
)
def test_a_failing_key_rests(clock: Clock, error: ProviderError, rest_s: float, limited: bool) -> None:
    """For as long as the provider says, or a while; only for the model that it was asked for."""
    keys = ring(clock, "one", "two")
    loan(keys).record_failure(error)
    assert [loan(keys).value for _ in range(3)] == ["two"] * 3
    loan(keys).record_failure(error)
    rest = resting(keys)
    assert (rest.wait_s, rest.is_rate_limited, rest.code) == (rest_s, limited, error.code)
    raised = rest.error()
    assert (raised.message, raised.retryable, raised.retry_after_ms) == (error.message, limited, rest_s * 1000)
    assert loan(keys, "other").value in {"one", "two"}
    clock.now += rest_s
    assert loan(keys).value


def test_the_key_that_will_do_first_tells_how_long(clock: Clock) -> None:
    """A limit passes; a refused key is worth no waiting while there is one with a limit."""
    keys = ring(clock, "one", "two", "three")
    for seconds in (9, 4):
        loan(keys).record_failure(
            ProviderError("upstream_rate_limited", "x", retryable=True, retry_after_ms=seconds * 1000)
        )
    loan(keys).record_failure(REFUSED)
    assert (resting(keys).wait_s, resting(keys).is_rate_limited) == (4, True)


def test_rather_a_refused_key_than_none(clock: Clock) -> None:
    """Where nothing else is left it is tried again, and has its place back if it works."""
    keys = ring(clock, "one")
    loan(keys).record_failure(REFUSED)
    assert not resting(keys).is_rate_limited
    again = keys.check_out(to("m"), allow_rejected=True)
    assert isinstance(again, KeyCheckout)
    again.record_success()
    assert loan(keys).value == "one"
    loan(keys).record_failure(LIMITED)
    assert isinstance(keys.check_out(to("m"), allow_rejected=True), CoolingDown), "a limit is obeyed"


def test_a_late_success_ends_no_limit(clock: Clock) -> None:
    """An answer that began before the limit was reached says nothing of it."""
    keys = ring(clock, "one")
    early = loan(keys)
    loan(keys).record_failure(LIMITED)
    early.record_success()
    assert resting(keys).is_rate_limited


def test_a_failing_provider_is_left_alone(clock: Clock) -> None:
    """Each key has its circuit; when all are open nobody is asked, whatever the model."""
    keys = ring(clock, "one", "two")
    for _ in range(3):
        loan(keys).record_failure(BROKEN)
    assert not keys.is_open
    loan(keys).record_failure(BROKEN)
    assert keys.is_open
    for model in ("m", "other"):
        rest = resting(keys, model)
        assert (rest.wait_s > 29, rest.is_rate_limited, rest.code) == (True, False, "upstream_error")
        assert rest.error().retryable
        assert "OpenAI has failed several times" in rest.message
    assert isinstance(keys.check_out(to("m"), allow_rejected=True), CoolingDown)


@pytest.mark.parametrize("error", [LIMITED, NO_CREDIT, REFUSED, ODD])
def test_what_opens_no_circuit(clock: Clock, error: ProviderError) -> None:
    """A provider that refuses isn't broken."""
    keys = ring(clock, "one", failures_max=1)
    loan(keys).record_failure(error)
    assert not keys.is_open


def test_a_circuit_is_named_without_its_key() -> None:
    """The same on every instance, another for each key and address, and neither can be read in it."""
    names = {circuit_name(ENDPOINT, key) for key in ENDPOINT.api_keys}
    assert len(names) == 3
    assert names == {circuit_name(ENDPOINT, key) for key in ENDPOINT.api_keys}
    elsewhere = Endpoint("openai", "OpenAI", "http://y/v1", (), ("one",))
    assert circuit_name(elsewhere, "one") not in names
    assert not any(secret in name for name in names for secret in ("one", "two", "http"))
