"""OpenTelemetry traces: a span for each turn, and one for each request to a provider. No span has a message's text.

Nothing of OpenTelemetry is imported unless an endpoint is set. The names follow the GenAI semantic conventions.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

import structlog

from gateway import __version__
from gateway.telemetry.dialect import OWN, current_dialect
from providers.base import ProviderError, Usage
from providers.route import Route
from store.api import user_hash

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = structlog.stdlib.get_logger("turnwire.gateway")

PROPAGATION_HEADERS = (b"traceparent", b"tracestate")
PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""The semantic conventions' names of providers, if they differ from ours."""

_trace_context: ContextVar[dict[str, str] | None] = ContextVar("turnwire_trace_context", default=None)


def adopt_trace_context(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Adopt the trace context in `headers`, as ASGI has them, if there is one.

    From now on, a turn that is started by this task, or by a task that it creates, belongs to that trace.
    """
    found = {name.decode(): value.decode("latin-1") for name, value in headers if name in PROPAGATION_HEADERS}
    if found:
        _trace_context.set(found)


class TurnTrace:
    """The spans of one turn."""

    def __init__(self, tracing: Tracing, span: Span) -> None:
        self._tracing = tracing
        self._turn = span
        self._attempt: Span | None = None

    def start_attempt(self, route: Route) -> None:
        """Start the span of a request to a provider, and end that of the previous one."""
        self._end_attempt()
        self._attempt = self._tracing.start_attempt_span(self._turn, route)

    def fail_attempt(self, error: ProviderError) -> None:
        """Mark the current request as failed, and end its span."""
        if self._attempt is not None:
            self._tracing.set_error(self._attempt, error.code)
        self._end_attempt()

    def end(self, status: str, model: str, usage: Usage | None, finish_reason: str | None, error: str | None) -> None:
        """End the turn's span. `error` is the error code of a failed turn."""
        span = self._turn
        span.set_attribute("gen_ai.response.model", model)
        span.set_attribute("turnwire.status", status)
        if finish_reason is not None:
            span.set_attribute("gen_ai.response.finish_reasons", [finish_reason])
        if usage is not None:
            span.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)
            if usage.cache_read_tokens is not None:
                span.set_attribute("gen_ai.usage.cache_read.input_tokens", usage.cache_read_tokens)
            if usage.cache_write_tokens is not None:
                span.set_attribute("gen_ai.usage.cache_creation.input_tokens", usage.cache_write_tokens)
        if error is not None:
            self._tracing.set_error(span, error)
        self._end_attempt()
        span.end()

    def hand_over(self) -> None:
        """End the turn's spans here, because another instance goes on with the turn."""
        self._end_attempt()
        self._turn.set_attribute("turnwire.status", "elsewhere")
        self._turn.end()

    def _end_attempt(self) -> None:
        if self._attempt is not None:
            self._attempt.end()
            self._attempt = None


class Tracing:
    """A maker of spans that exports them to `endpoint` by OTLP over HTTP.

    `models` are the model ids that may be in a span's name: clients can send any id, and collectors count by names.
    `users`: how a span names a user. Raises `ImportError` if the extra `otel` isn't installed.
    """

    def __init__(self, endpoint: str, models: Iterable[str], users: Literal["id", "hash"] = "id") -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource.create({"service.version": __version__})
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "turnwire"}))
        self._models = frozenset(models)
        self._hashes_users = users == "hash"
        self._trace_api = trace
        self._propagator = TraceContextTextMapPropagator()
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("turnwire", __version__)

    def start_turn(self, user: str, turn: str, conversation: str | None, model: str) -> TurnTrace:
        """Start the span of a turn, as a child of the trace context that this task has adopted, if any."""
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model,
            "turnwire.turn": turn,
            **({"user.hash": user_hash(user)} if self._hashes_users else {"user.id": user}),
        }
        if conversation is not None:
            attributes["gen_ai.conversation.id"] = conversation
        if current_dialect() != OWN:
            attributes["turnwire.dialect"] = current_dialect()
        context = self._propagator.extract(_trace_context.get() or {})
        kind = self._trace_api.SpanKind.SERVER
        return TurnTrace(self, self._tracer.start_span("turn", context, kind=kind, attributes=attributes))

    def start_attempt_span(self, turn: Span, route: Route) -> Span:
        """Return a new span for a request to a provider, as a child of the turn's span."""
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": PROVIDERS.get(route.provider, route.provider),
            "gen_ai.request.model": route.model,
        }
        context = self._trace_api.set_span_in_context(turn)
        name = f"chat {route.model}" if route.id in self._models else "chat"
        return self._tracer.start_span(name, context, kind=self._trace_api.SpanKind.CLIENT, attributes=attributes)

    def set_error(self, span: Span, code: str) -> None:
        """Mark the span as failed with this error code."""
        span.set_attribute("error.type", code)
        span.set_status(self._trace_api.StatusCode.ERROR)

    def shutdown(self) -> None:
        """Send the remaining spans. Blocks."""
        self._provider.shutdown()


def open_tracing(endpoint: str | None, models: Iterable[str], users: Literal["id", "hash"] = "id") -> Tracing | None:
    """Return a `Tracing` if an endpoint is set and the extra `otel` is installed, else None.

    If an endpoint is set but the extra is missing, a warning is logged.
    """
    if endpoint is None:
        return None
    try:
        return Tracing(endpoint, models, users)
    except ImportError:
        log.warning(
            "traces are off: OTEL_EXPORTER_OTLP_ENDPOINT requires the extra turnwire[otel]. See Traces in docs/operations.md"
        )
        return None
