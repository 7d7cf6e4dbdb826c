"""The dialect of Anthropic's Messages API."""

from __future__ import annotations

from typing import Any

from anthropic import AnthropicError, AsyncAnthropic

from providers.anthropic.events import MessagesDecoder
from providers.anthropic.request import messages_body
from providers.base import ChatRequest, DeltaSink
from providers.endpoint import Endpoint
from providers.http.sdk import SdkDialect, as_is
from providers.route import Route


class Dialect(SdkDialect):
    """The client for Anthropic's API. The dialects of clouds create another client. See `dialect.Dialect`."""

    SDK_ERROR = AnthropicError

    def _create_client(self, endpoint: Endpoint, **options: Any) -> Any:
        return AsyncAnthropic(api_key=endpoint.api_key, base_url=endpoint.base_url, **options)

    async def answer(self, request: ChatRequest, route: Route, sink: DeltaSink) -> None:
        """Request an answer and pass its batches to `sink`. Raise `ProviderError` on failure. See `Provider`."""
        create = self._client.messages.with_streaming_response.create
        await self._stream(
            create(**as_is(messages_body(request, route)), timeout=self._timeout(route)),
            MessagesDecoder(self._failures, route.quirks, request),
            sink,
        )
