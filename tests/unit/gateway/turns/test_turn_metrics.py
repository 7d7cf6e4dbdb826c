"""The metrics of one turn's attempts and its ending."""

from __future__ import annotations

from gateway.protocol.events import Timing
from gateway.telemetry.metrics import Telemetry
from gateway.turns.outcome import Outcome
from gateway.turns.turn_metrics import TurnMetrics
from providers.base import ProviderError
from providers.catalog.catalog import Catalog
from tests.metrics import value


def test_attempts_failures_and_the_ending_are_counted() -> None:
    """Attempts are counted by provider, failures by provider and code, fallbacks by model, the ending by status and model.

    Retries have no labels.
    """
    telemetry = Telemetry(["demo"])
    recorder = TurnMetrics(telemetry)
    route = Catalog({}).resolve("demo")
    recorder.on_request(route)
    recorder.on_failure(route, ProviderError("upstream_overloaded", "It is."))
    recorder.on_retry()
    recorder.on_fallback(route)
    recorder.on_request(route)
    recorder.on_end(Outcome("completed"), "demo", None, None, Timing(0, 1, 2))
    text = telemetry.render("")[0].decode()
    assert value(text, "turnwire_provider_attempts_total", provider="demo") == 2
    assert value(text, "turnwire_provider_errors_total", provider="demo", code="upstream_overloaded") == 1
    assert value(text, "turnwire_retries_total") == 1
    assert value(text, "turnwire_fallbacks_total", model="demo") == 1
    assert value(text, "turnwire_turns_ended_total", status="completed", model="demo") == 1
