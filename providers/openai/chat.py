"""The dialect of OpenAI's Chat Completions, for OpenAI and the many providers with variants of it.

The official SDK builds, signs and sends the request. The bytes of the stream are read without the SDK.
"""

from __future__ import annotations

from typing import Any

import httpx2
from openai import AsyncOpenAI, OpenAIError

from providers.base import ChatRequest, DeltaSink
from providers.errors.failures import Failures
from providers.http.stream import DeltaStream
from providers.http.transport import body_of, http_client
from providers.openai.chat_chunks import ChatDecoder
from providers.openai.chat_request import chat_arguments
from providers.route import Endpoint, Route, Timeouts


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
        self._create: Any = self._client.chat.completions.with_streaming_response.create

    async def answer(self, request: ChatRequest, route: Route, sink: DeltaSink) -> None:
        """Request an answer and pass its batches to `sink`. Raise `ProviderError` on failure. See `Provider`."""
        arguments = chat_arguments(request, route)
        timeout = httpx2.Timeout(self._timeouts.first_s(route), connect=self._timeouts.connect_s)
        try:
            async with self._create(**arguments, timeout=timeout) as response:
                deltas = DeltaStream(
                    body_of(response.http_response),
                    ChatDecoder(route.quirks, self._failures),
                    self._failures,
                    self._timeouts.between_events_s,
                    sink,
                )
                while (batch := await deltas.next()) is not None:
                    await sink.put(batch)
        except (OpenAIError, httpx2.HTTPError) as error:
            raise self._failures.of_exception(error) from error

    async def aclose(self) -> None:
        """Close the client's connections."""
        await self._client.close()
