"""Prometheus metrics for the operator. docs/operations.md says what each one means.

Nothing is counted per token. The tokens and the cost of a turn are counted when it ends. The latencies of batches are
sampled (`gateway/turns/sampling.py`). Values that can be looked up are read when the metrics are requested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.protocol.events import Timing
from gateway.protocol.views import NANOS_PER_USD
from providers.base import Usage

OTHER = "other"
"""The label of models that aren't in the catalog.

Clients can send any model name, and a label is kept as long as the process runs.
"""

LATENCY_BUCKETS_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
TOKEN_GAP_BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
FIRST_TOKEN_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
TURN_BUCKETS_S = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)

ReadMetrics = Callable[[], Iterable[Metric]]


class Telemetry:
    """The metrics of one process. `models` are the model ids that get a label of their own."""

    def __init__(self, models: Iterable[str]) -> None:
        self._models = frozenset(models)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # nobody uses the creation times
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(f"turnwire_{name}", documentation, labels, registry=registry)

        def histogram(name: str, documentation: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"turnwire_{name}_seconds", documentation, labels, buckets=buckets, registry=registry)

        self.build = Info("turnwire_build", "Version of the gateway.", registry=registry)
        self.build.info({"version": __version__})
        self.connections_opened = counter(
            "connections_opened", "Opened client connections: sockets, and HTTP requests with a session.", "transport"
        )
        self.connections_closed = counter("connections_closed", "Sockets closed by the gateway.", "code")
        self.slow_clients = counter("slow_clients", "Clients dropped because they read too slowly (4501).", "transport")
        self.refusals = counter("refusals", "Requests and openings answered with an error.", "code", "dialect")
        self.turns_started = counter("turns_started", "Turns accepted by this instance.", "model", "dialect")
        self.turns_ended = counter("turns_ended", "Turns ended on this instance.", "status", "model")
        self.takeovers = counter("takeovers", "Turns taken over from another instance.")
        self.tokens = counter("tokens", "Tokens of ended turns.", "kind", "model")
        self.cost = counter("cost_usd", "Cost of ended turns in US dollars, if a price is known.", "model")
        self.feedback = counter("feedback", "Ratings of messages. A changed rating counts again.", "model", "rating")
        self.attempts = counter("provider_attempts", "Requests to providers.", "provider")
        self.provider_errors = counter("provider_errors", "Failed requests to providers.", "provider", "code")
        self.retries = counter("retries", "Attempts that followed a failed attempt.")
        self.fallbacks = counter("fallbacks", "Turns that continued with this fallback model.", "model")
        self.continuations = counter(
            "continuations", "Ended turns whose answer broke off and was continued or started again.", "outcome"
        )
        self.titles = counter("titles", "Titles of conversations that a model was to write.", "outcome")
        self.resumes = counter("resumes", "Attachments after a position, continued or reset.", "outcome")
        self.replayed = counter(
            "replayed_bytes", "Approximate bytes of replayed events: those published before the attachment."
        )
        self.store_errors = counter("store_errors", "Failed store calls.", "operation")
        self.store_degradations = counter("store_degradations", "Periods in which the log could not be written.")
        self.first_token_delay = histogram(
            "first_token", "Time from acceptance to the first part or delta.", FIRST_TOKEN_BUCKETS_S, "model"
        )
        self.turn_duration = histogram("turn", "Time from acceptance to the ending.", TURN_BUCKETS_S, "status")
        self.cancel_duration = histogram(
            "cancel", "Time from a cancel request to its answer.", LATENCY_BUCKETS_S, "where"
        )
        self.store_call_duration = histogram("store", "Duration of store calls.", LATENCY_BUCKETS_S, "operation")
        self.token_gap = histogram("token_gap", "Time between two batches of a turn, sampled.", TOKEN_GAP_BUCKETS_S)
        self.added_latency = histogram(
            "added_latency",
            "Time from a provider's batch to the end of its write to a socket, sampled.",
            LATENCY_BUCKETS_S,
        )
        self.loop_lag = histogram("loop_lag", "Delay with which the event loop ran a timer.", LATENCY_BUCKETS_S)

    def model_label(self, model: str) -> str:
        """Return the label of the model."""
        return model if model in self._models else OTHER

    def register_live_metrics(self, read: ReadMetrics) -> None:
        """Add metrics that `read` returns each time the metrics are requested."""
        self._registry.register(_CallbackCollector(read))

    def record_turn(self, status: str, model: str, usage: Usage | None, cost_nano: int | None, timing: Timing) -> None:
        """Count a turn that has ended. `cost_nano` is in billionths of a dollar."""
        model = self.model_label(model)
        self.turns_ended.labels(status, model).inc()
        self.turn_duration.labels(status).observe(timing.total_ms / 1000)
        if timing.ttft_ms is not None:
            self.first_token_delay.labels(model).observe(timing.ttft_ms / 1000)
        if usage is not None:
            kinds = {
                "input": usage.input_tokens,
                "output": usage.output_tokens,
                "reasoning": usage.reasoning_tokens,
                "cache_read": usage.cache_read_tokens,
                "cache_write": usage.cache_write_tokens,
            }
            for kind, tokens in kinds.items():
                if tokens is not None:
                    self.tokens.labels(kind, model).inc(tokens)
        if cost_nano:
            self.cost.labels(model).inc(cost_nano / NANOS_PER_USD)

    def record_rating(self, model: str | None, rating: str) -> None:
        """Count the rating of a message that `model` wrote, or that no model wrote."""
        self.feedback.labels(self.model_label(model or OTHER), rating).inc()

    def record_attachment(self, after: int, start: int, replayed_bytes: int) -> None:
        """Count an attachment to the events after the seq `start`; the client asked for those after `after`.

        `replayed_bytes` is about the size of the events that existed already.
        """
        if after:
            self.resumes.labels("continued" if start == after else "reset").inc()
        self.replayed.inc(replayed_bytes)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in Prometheus's format, and the media type.

        `accept` is the `Accept` header of the request.
        """
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


class _CallbackCollector(Collector):
    """A collector of metrics that are read when they are requested."""

    def __init__(self, read: ReadMetrics) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Return the current metrics."""
        return self._read()


def gauge(name: str, documentation: str, values: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Metric:
    """Return a gauge named `turnwire_{name}` with its current values.

    `documentation` is the help text. Each of `values` is (the values of the labels, the value).
    """
    family = GaugeMetricFamily(f"turnwire_{name}", documentation, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def counter(name: str, documentation: str, values: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Metric:
    """Return a counter named `turnwire_{name}_total` with its current values. The parameters are those of `gauge`."""
    family = CounterMetricFamily(f"turnwire_{name}", documentation, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family
