"""Anthropic's Messages.

The official SDK builds, signs and sends the request; the stream's bytes are read beside it.
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
    """Anthropic's client. See `route.Dialect`."""

    NO_CREDENTIALS: tuple[type[Exception], ...] = ()
    """What a cloud's library raises that finds no credentials, or none that count."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts) -> None:
        self._failures = Failures(endpoint)
        self._timeouts = timeouts
        client = http_client(timeouts, endpoint.proxy)
        self._client = self._connect(endpoint, default_headers=endpoint.headers, http_client=client)

    def _connect(self, endpoint: Endpoint, **settings: Any) -> Any:
        """The SDK's client. A cloud's dialect has another one."""
        return AsyncAnthropic(api_key=endpoint.api_key, base_url=endpoint.base_url, max_retries=0, **settings)

    def _parser(self) -> Parser | None:
        """What reads one answer's frames; None: server-sent events."""
        return None

    async def answer(self, request: ChatRequest, route: Route, sink: DeltaSink) -> None:
        """See `Provider`."""
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
