"""The dialect of Anthropic's Messages.

The official SDK builds, signs and sends the request. The bytes of the stream are read without the SDK.
"""

from __future__ import annotations

from typing import Any

import httpx2
from anthropic import AnthropicError, AsyncAnthropic

from providers.anthropic.events import MessagesDecoder
from providers.anthropic.request import messages_body
from providers.base import ChatRequest, DeltaSink
from providers.errors.failures import Failures
from providers.http.stream import DeltaStream, Parser
from providers.http.transport import body_of, http_client
from providers.route import Endpoint, Route, Timeouts


class Dialect:
    """The client for Anthropic's API. See `route.Dialect`."""

    NO_CREDENTIALS: tuple[type[Exception], ...] = ()
    """The exceptions that a cloud's library raises if it finds no valid credentials."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts) -> None:
        self._failures = Failures(endpoint)
        self._timeouts = timeouts
        client = http_client(timeouts, endpoint.proxy)
        self._client = self._connect(endpoint, default_headers=endpoint.headers, http_client=client)

    def _connect(self, endpoint: Endpoint, **settings: Any) -> Any:
        """Return the SDK's client. The dialects of clouds override this."""
        return AsyncAnthropic(api_key=endpoint.api_key, base_url=endpoint.base_url, max_retries=0, **settings)

    def _parser(self) -> Parser | None:
        """Return a parser for one answer. None means server-sent events."""
        return None

    async def answer(self, request: ChatRequest, route: Route, sink: DeltaSink) -> None:
        """Request an answer and pass its batches to `sink`. Raise `ProviderError` on failure. See `Provider`."""
        body = messages_body(request, route)
        create = self._client.messages.with_streaming_response.create
        timeout = httpx2.Timeout(self._timeouts.first_s(route), connect=self._timeouts.connect_s)
        try:
            async with create(**body, timeout=timeout) as response:
                deltas = DeltaStream(
                    body_of(response.http_response),
                    MessagesDecoder(self._failures),
                    self._failures,
                    self._timeouts.between_events_s,
                    sink,
                    self._parser(),
                )
                while (batch := await deltas.next()) is not None:
                    await sink.put(batch)
        except (AnthropicError, httpx2.HTTPError) as error:
            raise self._failures.of_exception(error) from error
        except self.NO_CREDENTIALS as error:
            raise self._failures.no_credentials(error) from error

    async def aclose(self) -> None:
        """Close the client's connections."""
        await self._client.close()
