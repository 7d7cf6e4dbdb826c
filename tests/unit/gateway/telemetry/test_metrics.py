"""Metrics: what an ending adds, labels that stay few, and what is looked up when it is asked for."""

from __future__ import annotations

from gateway.protocol.events import Timing
from gateway.telemetry.metrics import Telemetry, gauge
from providers.base import Usage
from tests.metrics import value


def shown(telemetry: Telemetry) -> str:
    """What Prometheus reads."""
    body, media_type = telemetry.render("")
    assert media_type.startswith("text/plain")
    return body.decode()


def test_an_ending_counts_once() -> None:
    """Status, duration, first token, tokens by kind, and dollars."""
    telemetry = Telemetry(["m"])
    usage = Usage(10, 20, reasoning_tokens=5)
    telemetry.record_turn("completed", "m", usage, 1_500_000, Timing(0, 2000, 1, 300))
    telemetry.record_turn("failed", "m", None, None, Timing(0, 1000, 1))
    text = shown(telemetry)
    assert value(text, "turnwire_turns_ended_total", status="completed", model="m") == 1
    assert value(text, "turnwire_turn_seconds_sum", status="completed") == 2
    assert value(text, "turnwire_first_token_seconds_count") == 1
    assert value(text, "turnwire_first_token_seconds_sum") == 0.3
    assert [value(text, "turnwire_tokens_total", kind=kind) for kind in ("input", "output", "reasoning")] == [10, 20, 5]
    assert value(text, "turnwire_cost_usd_total", model="m") == 0.0015


def test_a_model_that_nobody_listed_is_other() -> None:
    """However many names clients invent, there is one label for them."""
    telemetry = Telemetry(["m"])
    for n in range(50):
        telemetry.record_turn("failed", f"invented-{n}", None, None, Timing(0, 1, 1))
    text = shown(telemetry)
    assert value(text, "turnwire_turns_ended_total", model="other") == 50
    assert "invented" not in text


def test_what_is_looked_up_is_of_the_moment() -> None:
    """Nothing is kept of it between two readings."""
    telemetry = Telemetry([])
    there = {("running",): 2.0}
    telemetry.register_gauges(lambda: [gauge("turns", "Turns", there.items(), "state")])
    assert value(shown(telemetry), "turnwire_turns", state="running") == 2
    there.clear()
    assert value(shown(telemetry), "turnwire_turns") == 0


def test_openmetrics_for_who_asks() -> None:
    """Prometheus asks for it by its header."""
    body, media_type = Telemetry([]).render("application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
