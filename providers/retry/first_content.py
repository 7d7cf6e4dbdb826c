"""Hold an answer back until its first content, so that a failure before it can be told from one after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from providers.base import (
    ChatRequest,
    Delta,
    DeltaSink,
    PartDelta,
    PartStarted,
    Provider,
    ProviderError,
    ResponseHandle,
    TextWriter,
)
from providers.route import Route


class Requester(DeltaSink, Protocol):
    """The receiver of an answer. It also builds the request for each model. The `on_` methods report the attempts."""

    async def build_request(self, route: Route) -> ChatRequest:
        """Return the request for this route's model. Raise `ProviderError` if the model can't take it."""

    def on_fallback(self, route: Route) -> None:
        """Called when this route's model is used instead of the requested one."""

    def on_request(self, route: Route, request: ChatRequest) -> None:
        """Called before a request is sent."""

    def on_failure(self, route: Route, error: ProviderError) -> None:
        """Called when a request has failed before its answer started."""

    def on_retry(self, attempt: int, delay_ms: int) -> None:
        """Called before attempt number `attempt`, which is made in `delay_ms`."""

    def on_start(self) -> None:
        """Called when the answer starts, before its first batch. After this it isn't retried."""


class _FirstContent:
    """A sink that holds an answer back until its first content: a new part, more of a part, or a response handle.

    Until then the answer may be retried.
    """

    def __init__(self, requester: Requester, on_start: Callable[[], None]) -> None:
        self.started = False
        self._requester = requester
        self._on_start = on_start
        self._held: list[Delta] = []

    @property
    def text_writer(self) -> TextWriter | None:
        """See `DeltaSink`. None if the answer hasn't started."""
        return self._requester.text_writer if self.started else None

    def offer(self, batch: list[Delta]) -> bool:
        """Pass `batch` on if the answer has started. Otherwise return False. See `DeltaSink`."""
        return self.started and self._requester.offer(batch)

    async def put(self, batch: list[Delta]) -> None:
        """Pass `batch` on, or hold it if the answer has no content yet. See `DeltaSink`."""
        if not self.started:
            self._held += batch
            if not any(isinstance(delta, PartStarted | PartDelta | ResponseHandle) for delta in batch):
                return
            batch = self._start()
        await self._requester.put(batch)

    async def end(self) -> None:
        """Pass on the held batches if the answer ended without content."""
        if not self.started:
            await self._requester.put(self._start())

    def _start(self) -> list[Delta]:
        self.started = True
        self._on_start()
        self._requester.on_start()
        held, self._held = self._held, []
        return held


class Interrupted(Exception):
    """The failure of an answer of `route` that had started. It must not be retried."""

    def __init__(self, route: Route, error: ProviderError) -> None:
        super().__init__(str(error))
        self.route = route
        self.error = error


async def pass_answer(
    route: Route,
    provider: Provider,
    request: ChatRequest,
    requester: Requester,
    on_start: Callable[[], None] = lambda: None,
) -> None:
    """Pass the whole answer to `requester`. Raise `ProviderError` before it starts and `Interrupted` after that."""
    sink = _FirstContent(requester, on_start)
    try:
        await provider.answer(request, sink)
    except ProviderError as error:
        if sink.started:
            raise Interrupted(route, error) from error
        raise
    await sink.end()
