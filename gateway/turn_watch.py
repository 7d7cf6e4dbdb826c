"""What is measured of one turn that runs here, from its acceptance to its ending: a few calls per turn and attempt."""

from __future__ import annotations

from gateway.events import Timing
from gateway.outcome import Outcome
from gateway.telemetry import Telemetry
from providers.base import ProviderError, Usage
from providers.route import Route


class TurnWatch:
    """The observer of one turn."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def asking(self, route: Route) -> None:
        """A request goes out to a provider."""
        self._telemetry.attempts.labels(route.provider).inc()

    def failed(self, route: Route, error: ProviderError) -> None:
        """It failed, before the first token or behind it."""
        self._telemetry.provider_errors.labels(route.provider, error.code).inc()

    def retrying(self) -> None:
        """Another one will follow."""
        self._telemetry.retries.inc()

    def falling_back(self, route: Route) -> None:
        """Another model is asked."""
        self._telemetry.fallbacks.labels(self._telemetry.model(route.id)).inc()

    def ended(self, outcome: Outcome, model: str, usage: Usage | None, cost_nano: int | None, timing: Timing) -> None:
        """The ending is stored and published."""
        self._telemetry.turn_ended(outcome.status, model, usage, cost_nano, timing)
