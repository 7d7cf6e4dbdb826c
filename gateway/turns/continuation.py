"""Continue an answer that broke off after its first words: the `Continuer` of one turn."""

from __future__ import annotations

from msgspec import structs

from gateway.offload import offload
from gateway.turns.event_writer import EventWriter
from gateway.turns.request_builder import RequestBuilder
from gateway.turns.token_estimate import estimate_tokens, request_tokens
from providers.base import ChatRequest, Delta, Part, ProviderError, TextWriter, too_long
from providers.continuation import Way, way_to_continue
from providers.route import Route

MAX_TOKENS_MIN = 16
"""The least that `params.max_tokens` is reduced to, because some APIs refuse less."""


class AnswerContinuer:
    """The `Continuer` of one turn. `builder` makes its requests, and `chat_request` is the request to continue.

    `answering` is the route of the model that a former owner asked, if there was one. `is_broken`: the answer broke off in
    this turn. If not, the client has asked to go on from an answer of an earlier turn.
    """

    def __init__(
        self,
        builder: RequestBuilder,
        event_writer: EventWriter,
        chat_request: ChatRequest,
        answering: Route | None = None,
        *,
        is_broken: bool = True,
    ) -> None:
        self._builder = builder
        self._event_writer = event_writer
        self._chat_request = chat_request
        self._answering = answering
        self._is_broken = is_broken
        self.failure: ProviderError | None = None
        """The last failure of a request for the rest."""
        self._parts: list[Part] | None = None
        self._way: Way | None = None
        self._is_begun = False
        self._is_retry_announced = False

    async def build_continuation(self, route: Route) -> ChatRequest:
        """See `Continuer`."""
        if self._parts is None:
            self._parts = await offload(self._event_writer.size, self._event_writer.parts)
            self._way = self._find_way(self._parts)
        if not can_continue(route, self._way):
            raise ProviderError("unsupported", f"The model {route.id} can't continue this answer. Start a new turn.")
        request = await self._builder.build_request(route)
        if self._way == "restart":
            return request
        tokens = estimate_tokens(self._parts)
        if route.context_window is not None and request_tokens(request) + tokens > route.context_window:
            raise ProviderError("context_length_exceeded", too_long(f"the model {route.id}"))
        max_tokens = self._chat_request.params.max_tokens
        if max_tokens is not None and self._is_broken:
            left = max(min(max_tokens, MAX_TOKENS_MIN), max_tokens - tokens)
            left = min(left, route.max_output or left)
            request = structs.replace(request, params=structs.replace(request.params, max_tokens=left))
        return request.continuing(self._parts)

    def _find_way(self, parts: list[Part]) -> Way | None:
        """Return how the answer goes on, or None.

        An answer whose start the client itself sent as the last message isn't continued. Neither is one that the
        provider completes and keeps.
        """
        messages = self._chat_request.messages
        if self._event_writer.live_turn.response_handle is not None or (messages and messages[-1].role == "assistant"):
            return None
        return way_to_continue(parts, self._chat_request.params.response_format)

    def on_break(self, error: ProviderError | None) -> None:
        """See `Continuer`."""
        if not self._is_begun:
            self._is_begun = True
            if self._is_broken:
                self._event_writer.metrics.on_continue()
            self._end_request(error)

    def on_continue(self, route: Route) -> None:
        """See `Continuer`."""
        writer = self._event_writer
        if self._way == "continue":
            writer.live_turn.set_model(route.id)
            writer.publish_status(status="continued", model=route.id)
        elif self._is_retry_announced:
            pass
        elif self._builder.is_primary(route):
            writer.metrics.on_retry()
            writer.publish_status(status="retrying", attempt=writer.attempts + 1, delay_ms=0)
        else:
            self._builder.on_fallback(route)

    def _end_request(self, error: ProviderError | None) -> None:
        """Record the usage and the failure of the request whose answer broke off."""
        writer = self._event_writer
        if self._answering is not None:
            writer.record_lost_request(self._answering, self._chat_request)
        elif error is not None and writer.route is not None:
            writer.metrics.on_failure(writer.route, error)
        writer.end_request(self._parts or [])
        if self._way == "restart":
            writer.reset("the answer broke off before its first word, so it starts again")

    def on_continue_retry(self, attempt: int, delay_ms: int) -> None:
        """See `Continuer`. If the answer has text, no status is published here: `on_continue` publishes "continued"."""
        if self._way == "restart":
            self._is_retry_announced = True
            self._builder.on_retry(self._event_writer.attempts + 1, delay_ms)
        else:
            self._event_writer.metrics.on_retry()

    def on_request(self, route: Route, request: ChatRequest) -> None:
        """See `Requester`."""
        self._builder.on_request(route, request)

    def on_failure(self, route: Route, error: ProviderError) -> None:
        """See `Requester`. A request without an answer isn't counted in the usage."""
        self.failure = error
        self._builder.on_failure(route, error)
        self._event_writer.drop_request()

    def on_start(self) -> None:
        """See `Requester`."""
        self._builder.on_start()

    @property
    def text_writer(self) -> TextWriter | None:
        """See `DeltaSink`."""
        return self._builder.text_writer

    def offer(self, batch: list[Delta]) -> bool:
        """See `DeltaSink`."""
        return self._builder.offer(batch)

    async def put(self, batch: list[Delta]) -> None:
        """See `DeltaSink`."""
        await self._builder.put(batch)


def can_continue(route: Route, way: Way | None) -> bool:
    """Return whether the model of `route` can continue an answer in this way."""
    if way == "restart":
        return route.continues != "off"
    return way == "continue" and route.continuation is not None
