"""Build the request of one turn for each model that is tried, report the attempts, and pass the answer on."""

from __future__ import annotations

import asyncio

from msgspec import structs

from gateway.offload import offload, request_size
from gateway.turns.event_writer import EventWriter
from gateway.turns.leases import Leases
from gateway.turns.text_fast_path import TextFastPath
from gateway.turns.trimming import fits, trim
from providers.base import ChatRequest, Delta, ProviderError, too_long
from providers.fit.context import fit
from providers.fit.media import leave_out_media
from providers.route import Route

ANSWER_TOKENS = 4096
DELTAS_PER_SLICE = 250
"""A longer batch is published in slices of this many deltas. Other tasks run between two slices."""


async def check_request(route: Route, chat_request: ChatRequest) -> None:
    """Raise `ProviderError` if the model of `route` can't take the request."""
    await offload(request_size(chat_request), _check, route, chat_request)


def _check(route: Route, chat_request: ChatRequest) -> None:
    route.check(leave_out_media(chat_request, route))
    route.check_length(chat_request)


def fit_request(route: Route, chat_request: ChatRequest, *, stateless: bool) -> ChatRequest:
    """Return the request adapted to the model of `route` (`providers/fit`), and trimmed to its context window.

    A `stateless` request isn't trimmed. `omitted_messages` also counts the messages that are trimmed here. Raise
    `ProviderError` if the model can't take the request.
    """
    chat_request = leave_out_media(chat_request, route)
    if not stateless:
        kept = trim(chat_request, route.context_window, answer_tokens(route, chat_request))
        trimmed = len(chat_request.messages) - len(kept.messages)
        chat_request = structs.replace(kept, omitted_messages=kept.omitted_messages + trimmed)
    _check(route, chat_request)
    return fit(chat_request, route)


def answer_tokens(route: Route, chat_request: ChatRequest) -> int:
    """Return the number of tokens of the context window that are kept free for the answer."""
    if chat_request.params.max_tokens is not None:
        return chat_request.params.max_tokens
    return min(route.max_output or ANSWER_TOKENS, (route.context_window or 0) // 4)


class RequestBuilder:
    """The `Requester` of one turn.

    `primary` is the route to the model that the turn asks for, and `chat_request` the whole request, untrimmed.
    A `stateless` request is never trimmed.
    """

    def __init__(
        self, event_writer: EventWriter, leases: Leases, primary: Route, chat_request: ChatRequest, *, stateless: bool
    ) -> None:
        self._leases = leases
        self._event_writer = event_writer
        self._primary = primary
        self._chat_request = chat_request
        self._stateless = stateless
        self._published_omitted = 0
        self._size = request_size(chat_request)
        self.text_writer = TextFastPath(event_writer, leases)
        """See `DeltaSink`."""

    def is_primary(self, route: Route) -> bool:
        """Return whether `route` is that of the model that the turn asks for."""
        return route.id == self._primary.id

    async def build_request(self, route: Route) -> ChatRequest:
        """Return the request for the model of `route`, trimmed to its context window.

        Raises `ProviderError` if the model can't take the request, or if the request is too long for a fallback.
        """
        return await offload(self._size, self._fit, route)

    def _fit(self, route: Route) -> ChatRequest:
        chat_request = structs.replace(self._chat_request, model=route.model)
        max_tokens = chat_request.params.max_tokens
        if route is not self._primary:
            chat_request = structs.replace(
                chat_request, messages=tuple(message.without_signatures() for message in chat_request.messages)
            )
        if route is not self._primary and max_tokens is not None and route.max_output is not None:
            params = structs.replace(chat_request.params, max_tokens=min(max_tokens, route.max_output))
            chat_request = structs.replace(chat_request, params=params)
        chat_request = fit_request(route, chat_request, stateless=self._stateless)
        kept_free = answer_tokens(route, chat_request)
        if route is not self._primary and not fits(chat_request, route.context_window, kept_free):
            raise ProviderError("context_length_exceeded", too_long(f"the model {route.id}"))
        return chat_request

    def on_fallback(self, route: Route) -> None:
        """See `Requester`."""
        self._event_writer.live_turn.set_model(route.id)
        self._event_writer.metrics.on_fallback(route)
        self._event_writer.publish_status(status="fallback", model=route.id)

    def on_request(self, route: Route, chat_request: ChatRequest) -> None:
        """See `Requester`."""
        omitted = chat_request.omitted_messages
        if omitted != self._published_omitted:
            self._published_omitted = omitted
            self._event_writer.publish_status(status="trimmed", messages=omitted)
        self._event_writer.record_request(route, chat_request)

    def on_failure(self, route: Route, error: ProviderError) -> None:
        """See `Requester`."""
        self._event_writer.metrics.on_failure(route, error)

    def on_retry(self, attempt: int, delay_ms: int) -> None:
        """See `Requester`."""
        self._event_writer.metrics.on_retry()
        self._event_writer.publish_status(status="retrying", attempt=attempt, delay_ms=delay_ms)

    def on_start(self) -> None:
        """See `Requester`."""
        self._event_writer.response_started = True

    def offer(self, batch: list[Delta]) -> bool:
        """See `DeltaSink`. Return False if the turn must stop or confirm its lease, or if `batch` is long."""
        signal = self._event_writer.live_turn.signal
        if signal.is_aborted or self._leases.is_stale or len(batch) > DELTAS_PER_SLICE:
            return False
        self._event_writer.deliver(batch)
        return True

    async def put(self, batch: list[Delta]) -> None:
        """See `DeltaSink`. Confirm a stale lease first, so that a lost turn is aborted before it publishes more."""
        if self._leases.is_stale:
            await self._leases.confirm()
            await asyncio.sleep(0)
        signal = self._event_writer.live_turn.signal
        for first in range(0, len(batch), DELTAS_PER_SLICE):
            if first or signal.is_aborted:
                await asyncio.sleep(0)  # raises if the turn was aborted
            self._event_writer.deliver(batch[first : first + DELTAS_PER_SLICE])
        if signal.is_aborted:
            await asyncio.sleep(0)
