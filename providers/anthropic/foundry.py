"""Anthropic's models in Microsoft Foundry, called with the Foundry client of Anthropic's SDK."""

from __future__ import annotations

from typing import Any

from anthropic import AsyncAnthropicFoundry

from providers.anthropic import messages as anthropic
from providers.endpoint import Endpoint


class Dialect(anthropic.Dialect):
    """The client for Foundry. See `dialect.Dialect`."""

    def _create_client(self, endpoint: Endpoint, **options: Any) -> Any:
        return AsyncAnthropicFoundry(api_key=endpoint.api_key, base_url=endpoint.base_url, **options)
