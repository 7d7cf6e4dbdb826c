"""The metrics and the trace of one turn that runs here, from its acceptance to its ending.

They cost a few calls per turn and attempt.
"""

from __future__ import annotations

from gateway.protocol.events import Timing
from gateway.telemetry.metrics import Telemetry
from gateway.telemetry.tracing import TurnTrace
from gateway.turns.outcome import Outcome
from providers.base import ProviderError, Usage
from providers.route import Route


class TurnMetrics:
    """The metrics of one turn. `trace` holds its spans; None if tracing is off."""

    def __init__(self, telemetry: Telemetry, trace: TurnTrace | None = None) -> None:
        self._telemetry = telemetry
        self._trace = trace
        self._is_continued = False

    def on_request(self, route: Route) -> None:
        """Record that a request is sent to the provider of `route`."""
        self._telemetry.attempts.labels(route.provider).inc()
        if self._trace is not None:
            self._trace.start_attempt(route)

    def on_failure(self, route: Route, error: ProviderError) -> None:
        """Record that the request failed, before or after its first token."""
        self._telemetry.provider_errors.labels(route.provider, error.code).inc()
        if self._trace is not None:
            self._trace.fail_attempt(error)

    def on_retry(self) -> None:
        """Record that another request will follow."""
        self._telemetry.retries.inc()

    def on_continue(self) -> None:
        """Record that the answer broke off, and that a model is asked to continue it."""
        self._is_continued = True

    def on_fallback(self, route: Route) -> None:
        """Record that the model of `route` is asked as a fallback."""
        self._telemetry.fallbacks.labels(self._telemetry.model_label(route.id)).inc()

    def on_end(self, outcome: Outcome, model: str, usage: Usage | None, cost_nano: int | None, timing: Timing) -> None:
        """Record that the ending is stored and published. `cost_nano` is in billionths of a dollar."""
        if self._is_continued:
            self._telemetry.continuations.labels(outcome.status).inc()
        self._telemetry.record_turn(outcome.status, model, usage, cost_nano, timing)
        if self._trace is not None:
            error = None if outcome.error is None else outcome.error.code
            reason = outcome.finish_reason if outcome.status == "completed" else None
            self._trace.end(outcome.status, model, usage, reason, error)

    def on_hand_over(self) -> None:
        """Record that another instance continues the turn."""
        if self._trace is not None:
            self._trace.hand_over()
