"""The client of OpenAI's SDK, which both of its dialects share."""

from __future__ import annotations

from typing import Any

from openai import AsyncOpenAI, OpenAIError

from providers.endpoint import Endpoint
from providers.http.sdk import SdkDialect


class OpenAiDialect(SdkDialect):
    """The base of both dialects. See `SdkDialect`."""

    SDK_ERROR = OpenAIError

    def _create_client(self, endpoint: Endpoint, **options: Any) -> Any:
        client = AsyncOpenAI(api_key=endpoint.api_key or "none", base_url=endpoint.base_url, **options)
        if endpoint.provider.partition(":")[0] != "openai":
            # The SDK reads OPENAI_ORG_ID and OPENAI_PROJECT_ID, which must not be sent to another provider.
            client.organization = client.project = None
        return client

    def _at_path(self, path: str) -> AsyncOpenAI:
        """Return a client that shares the connections, for the API at `path` instead of `/v1` on the same host."""
        base_url = str(self._client.base_url).rstrip("/").removesuffix("/v1") + path
        client: AsyncOpenAI = self._client.with_options(base_url=base_url)
        client.organization, client.project = self._client.organization, self._client.project
        return client
