"""Tests of the metrics: the values added by an ending, the bounded labels, and the gauges read on request."""

from __future__ import annotations

from gateway.protocol.events import Timing
from gateway.telemetry.metrics import Telemetry, gauge
from providers.base import Usage
from tests.metrics import value


def rendered(telemetry: Telemetry) -> str:
    """Return the text that Prometheus reads."""
    body, media_type = telemetry.render("")
    assert media_type.startswith("text/plain")
    return body.decode()


def test_an_ending_is_counted_once() -> None:
    """Status, duration, time to the first token, tokens by kind and cost in dollars are recorded."""
    telemetry = Telemetry(["m"])
    usage = Usage(10, 20, reasoning_tokens=5)
    telemetry.record_turn("completed", "m", usage, 1_500_000, Timing(0, 2000, 1, 300))
    telemetry.record_turn("failed", "m", None, None, Timing(0, 1000, 1))
    text = rendered(telemetry)
    assert value(text, "turnwire_turns_ended_total", status="completed", model="m") == 1
    assert value(text, "turnwire_turn_seconds_sum", status="completed") == 2
    assert value(text, "turnwire_first_token_seconds_count") == 1
    assert value(text, "turnwire_first_token_seconds_sum") == 0.3
    assert [value(text, "turnwire_tokens_total", kind=kind) for kind in ("input", "output", "reasoning")] == [10, 20, 5]
    assert value(text, "turnwire_cost_usd_total", model="m") == 0.0015


def test_a_cache_that_never_hits_has_a_sample() -> None:
    """A reported 0 is a hit rate of 0. If a provider reports nothing about its cache, there is no sample."""
    telemetry = Telemetry(["m", "n"])
    telemetry.record_turn("completed", "m", Usage(10, 20, cache_read_tokens=0), None, Timing(0, 1, 1))
    telemetry.record_turn("completed", "n", Usage(10, 20), None, Timing(0, 1, 1))
    read = [line for line in rendered(telemetry).splitlines() if 'kind="cache_read"' in line]
    assert read == ['turnwire_tokens_total{kind="cache_read",model="m"} 0.0']


def test_an_unlisted_model_has_the_label_other() -> None:
    """All model names that clients invent share one label."""
    telemetry = Telemetry(["m"])
    for n in range(50):
        telemetry.record_turn("failed", f"invented-{n}", None, None, Timing(0, 1, 1))
    text = rendered(telemetry)
    assert value(text, "turnwire_turns_ended_total", model="other") == 50
    assert "invented" not in text


def test_gauges_are_read_on_each_request() -> None:
    """No value is kept between two requests."""
    telemetry = Telemetry([])
    values = {("running",): 2.0}
    telemetry.register_live_metrics(lambda: [gauge("turns", "Turns", values.items(), "state")])
    assert value(rendered(telemetry), "turnwire_turns", state="running") == 2
    values.clear()
    assert value(rendered(telemetry), "turnwire_turns") == 0


def test_openmetrics_is_sent_on_request() -> None:
    """Prometheus requests this format with a header."""
    body, media_type = Telemetry([]).render("application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
