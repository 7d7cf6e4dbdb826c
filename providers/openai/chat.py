"""The dialect of OpenAI's Chat Completions API, for OpenAI and the many providers with variants of it."""

from __future__ import annotations

from providers.base import ChatRequest, DeltaSink
from providers.endpoint import Endpoint
from providers.http.sdk import as_is
from providers.openai.chat_chunks import ChatDecoder
from providers.openai.chat_request import chat_arguments
from providers.openai.client import OpenAiDialect
from providers.route import Route
from providers.timeouts import Timeouts


class Dialect(OpenAiDialect):
    """The client for one provider. See `dialect.Dialect`."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts) -> None:
        super().__init__(endpoint, timeouts)
        # The SDK imports many of its modules here. Do it now, so that the first request doesn't wait for it.
        self._create = self._client.chat.completions.with_streaming_response.create

    async def answer(self, request: ChatRequest, route: Route, sink: DeltaSink) -> None:
        """Request an answer and pass its batches to `sink`. Raise `ProviderError` on failure. See `Provider`."""
        create = self._create
        if request.partial_answer and route.quirks.prefill_path:
            create = self._at_path(route.quirks.prefill_path).chat.completions.with_streaming_response.create
        await self._stream(
            create(**as_is(chat_arguments(request, route)), timeout=self._timeout(route)),
            ChatDecoder(route.quirks, self._failures, request),
            sink,
        )
