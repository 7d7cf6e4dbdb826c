"""Request the rest of an answer that broke off, from the same model or from another one."""

from __future__ import annotations

from typing import Protocol

from providers.base import ChatRequest, Delta, DeltaSink, ProviderError, TextWriter
from providers.route import Route


class Continuer(DeltaSink, Protocol):
    """The receiver of the rest of an answer that broke off. It also builds the request for each model."""

    async def build_continuation(self, route: Route) -> ChatRequest:
        """Return the request with which this route's model continues the answer. Raise `ProviderError` if it can't."""

    def on_break(self, error: ProviderError | None) -> None:
        """Called before the other `on_` methods, at least once. `error` is the failure with which the answer broke off.

        It is None if the answer broke off in another process. Only the first call has an effect.
        """

    def on_continue(self, route: Route) -> None:
        """Called before the model of `route` is asked to continue the answer."""

    def on_request(self, route: Route, request: ChatRequest) -> None:
        """See `Requester`."""

    def on_failure(self, route: Route, error: ProviderError) -> None:
        """See `Requester`."""

    def on_continue_retry(self, attempt: int, delay_ms: int) -> None:
        """Called before attempt number `attempt`, which is made in `delay_ms`. Clients needn't be told."""

    def on_start(self) -> None:
        """See `Requester`."""


class ContinuingRequester:
    """A `Requester` that passes the rest of an answer to `continuer`. See `Continuer.on_break` for `error`."""

    def __init__(self, continuer: Continuer, error: ProviderError | None) -> None:
        self._continuer = continuer
        self._error = error
        self._asked: Route | None = None

    async def build_request(self, route: Route) -> ChatRequest:
        """See `Requester`."""
        return await self._continuer.build_continuation(route)

    def on_fallback(self, route: Route) -> None:
        """Do nothing, because `on_request` reports each model."""

    def on_request(self, route: Route, request: ChatRequest) -> None:
        """See `Requester`."""
        if route is not self._asked:
            self._asked = route
            self._continuer.on_break(self._error)
            self._continuer.on_continue(route)
        self._continuer.on_request(route, request)

    def on_failure(self, route: Route, error: ProviderError) -> None:
        """See `Requester`."""
        self._continuer.on_failure(route, error)

    def on_retry(self, attempt: int, delay_ms: int) -> None:
        """See `Requester`. The first request is delayed too if every key is cooling down."""
        self._continuer.on_break(self._error)
        self._continuer.on_continue_retry(attempt, delay_ms)

    def on_start(self) -> None:
        """See `Requester`."""
        self._continuer.on_start()

    @property
    def text_writer(self) -> TextWriter | None:
        """See `DeltaSink`."""
        return self._continuer.text_writer

    def offer(self, batch: list[Delta]) -> bool:
        """See `DeltaSink`."""
        return self._continuer.offer(batch)

    async def put(self, batch: list[Delta]) -> None:
        """See `DeltaSink`."""
        await self._continuer.put(batch)
