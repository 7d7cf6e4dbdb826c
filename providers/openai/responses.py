"""The dialect of OpenAI's Responses, for OpenAI and other providers that serve it.

The official SDK builds, signs and sends the request. The bytes of the stream are read without the SDK.
"""

from __future__ import annotations

from typing import Any, Final

import httpx2
from openai import AsyncOpenAI, NotFoundError, OpenAIError

from providers.base import ChatRequest, DeltaSink, ResponseHandle
from providers.errors.failures import Failures
from providers.http.body import REFUSAL_BYTES_MAX
from providers.http.stream import DeltaStream
from providers.http.transport import body_of, http_client
from providers.openai.responses_events import ResponsesDecoder
from providers.openai.responses_request import again_arguments, responses_arguments
from providers.retry.replay_dedupe import ReplayFilter, ReplayMismatch, ReplaySink
from providers.route import Endpoint, Route, Timeouts

STOP_S: Final = 2.0
"""How long to wait for the provider to accept a request to stop an answer."""


class Dialect:
    """The client for one provider. See `route.Dialect`."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts) -> None:
        self._failures = Failures(endpoint)
        self._timeouts = timeouts
        self._client = AsyncOpenAI(
            api_key=endpoint.api_key or "none",
            base_url=endpoint.base_url,
            default_headers=endpoint.headers,
            max_retries=0,
            http_client=http_client(timeouts, endpoint.proxy),
        )
        if endpoint.provider.partition(":")[0] != "openai":
            # The SDK reads OPENAI_ORG_ID and OPENAI_PROJECT_ID, which must not be sent to another provider.
            self._client.organization = self._client.project = None
        # The SDK imports much of itself here. Do it now, so that the first request doesn't wait for it.
        self._asks = self._client.responses.with_streaming_response

    async def answer(self, request: ChatRequest, route: Route, sink: DeltaSink) -> None:
        """Request an answer and pass its batches to `sink`. Raise `ProviderError` on failure. See `Provider`.

        If the request has a response handle, replay that answer from its start, whether it is complete or not, and
        pass on only what comes after `request.answered`.
        """
        cursor = request.cursor
        to = sink if cursor is None else ReplaySink(ReplayFilter(request.answered), sink)
        kept_for = route.id if cursor is None and route.quirks.background else None
        timeout = httpx2.Timeout(self._timeouts.first_s(route), connect=self._timeouts.connect_s)
        try:
            opened: Any = (
                self._asks.create(**responses_arguments(request, route), timeout=timeout)
                if cursor is None
                else self._asks.retrieve(cursor.id, **again_arguments(route), timeout=timeout)
            )
            async with opened as response:
                deltas = DeltaStream(
                    body_of(response.http_response),
                    ResponsesDecoder(route.quirks, self._failures, kept_for),
                    self._failures,
                    self._timeouts.between_events_s,
                    to,
                )
                while (batch := await deltas.next()) is not None:
                    await to.put(batch)
        except ReplayMismatch as error:
            raise self._failures.incomplete(error) from error
        except (OpenAIError, httpx2.HTTPError) as error:
            if cursor is not None and isinstance(error, NotFoundError):
                raise self._failures.incomplete("the answer is no longer kept") from error
            raise self._failures.of_exception(error) from error

    async def stop(self, cursor: ResponseHandle) -> None:
        """Stop the answer with the response handle `cursor`. Raise `ProviderError` on failure."""
        try:
            async with self._asks.cancel(cursor.id, timeout=STOP_S) as response:
                await body_of(response.http_response).beginning(REFUSAL_BYTES_MAX, STOP_S)
        except (OpenAIError, httpx2.HTTPError) as error:
            raise self._failures.of_exception(error) from error

    async def aclose(self) -> None:
        """Close the client's connections."""
        await self._client.close()
