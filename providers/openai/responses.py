"""The dialect of OpenAI's Responses API, for OpenAI and other providers that serve it."""

from __future__ import annotations

from typing import Final

from openai import NotFoundError

from providers.base import ChatRequest, DeltaSink, ProviderError, ResponseHandle
from providers.endpoint import Endpoint
from providers.http.sdk import as_is
from providers.http.transport import body_of
from providers.http.transport_errors import ERROR_BODY_BYTES_MAX
from providers.openai.client import OpenAiDialect
from providers.openai.responses_events import ResponsesDecoder
from providers.openai.responses_request import responses_arguments, retrieve_arguments
from providers.retry.replay_dedupe import ReplayMismatch, ReplaySink
from providers.route import Route
from providers.timeouts import Timeouts

STOP_S: Final = 2.0
"""How long to wait for the provider to accept a request to stop an answer."""


class Dialect(OpenAiDialect):
    """The client for one provider. See `dialect.Dialect`."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts) -> None:
        super().__init__(endpoint, timeouts)
        # The SDK imports many of its modules here. Do it now, so that the first request doesn't wait for it.
        self._responses = self._client.responses.with_streaming_response

    async def answer(self, request: ChatRequest, route: Route, sink: DeltaSink) -> None:
        """Request an answer and pass its batches to `sink`. Raise `ProviderError` on failure. See `Provider`.

        If the request has a response handle, replay that answer from its start, whether it is complete or not, and
        pass on only what comes after `request.partial_answer`.
        """
        timeout = self._timeout(route)
        tools = [tool.name for tool in request.tools]
        if (handle := request.response_handle) is None:
            stored_for = route.id if route.quirks.background else None
            await self._stream(
                self._responses.create(**as_is(responses_arguments(request, route)), timeout=timeout),
                ResponsesDecoder(route.quirks, self._failures, stored_for, tools, is_rest=request.asks_for_rest),
                sink,
            )
            return
        try:
            await self._stream(
                self._responses.retrieve(handle.id, **retrieve_arguments(route), timeout=timeout),
                ResponsesDecoder(route.quirks, self._failures, tools=tools),
                ReplaySink(request.partial_answer, sink),
            )
        except ReplayMismatch as error:
            raise self._failures.incomplete(error) from error
        except ProviderError as error:
            if isinstance(error.__cause__, NotFoundError):
                raise self._failures.incomplete("the answer is no longer stored") from error
            raise

    async def stop(self, handle: ResponseHandle) -> None:
        """Stop the answer with this response handle. Raise `ProviderError` on failure."""
        with self._errors():
            async with self._responses.cancel(handle.id, timeout=STOP_S) as response:
                await body_of(response.http_response).read_start(ERROR_BODY_BYTES_MAX, STOP_S)
