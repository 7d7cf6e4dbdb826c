"""OpenAI's Responses, and the providers that serve it too.

The official SDK builds, signs and sends the request; the stream's bytes are read beside it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
from openai import AsyncOpenAI, OpenAIError

from providers.base import ChatRequest, Delta
from providers.failures import Failures
from providers.responses_events import ResponsesDecoder
from providers.responses_request import responses_arguments
from providers.route import Endpoint, Route, Timeouts
from providers.stream import DeltaStream
from providers.transport import body_of, http_client


class Dialect:
    """One provider's client. See `route.Dialect`."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts) -> None:
        self._failures = Failures(endpoint)
        self._timeouts = timeouts
        self._client = AsyncOpenAI(
            api_key=endpoint.api_key or "none",
            base_url=endpoint.base_url,
            default_headers=endpoint.headers,
            max_retries=0,
            http_client=http_client(timeouts),
        )

    async def stream(self, request: ChatRequest, route: Route) -> AsyncIterator[list[Delta]]:
        """See `Provider`."""
        arguments = responses_arguments(request, route)
        create: Any = self._client.responses.with_streaming_response.create
        timeout = httpx2.Timeout(self._timeouts.first_s(route), connect=self._timeouts.connect_s)
        try:
            async with create(**arguments, timeout=timeout) as response:
                deltas = DeltaStream(
                    body_of(response.http_response),
                    ResponsesDecoder(route.quirks, self._failures),
                    self._failures,
                    self._timeouts.between_events_s,
                )
                while (batch := await deltas.next()) is not None:
                    yield batch
        except (OpenAIError, httpx2.HTTPError) as error:
            raise self._failures.of_exception(error) from error

    async def aclose(self) -> None:
        """Close the client's connections."""
        await self._client.close()
