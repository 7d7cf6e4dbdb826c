"""Anthropic's models in Microsoft Foundry, through their SDK's own client."""

from __future__ import annotations

from typing import Any

from anthropic import AsyncAnthropicFoundry

from providers.anthropic import messages as anthropic
from providers.route import Endpoint


class Dialect(anthropic.Dialect):
    """Foundry's client. See `route.Dialect`."""

    def _connect(self, endpoint: Endpoint, **settings: Any) -> Any:
        return AsyncAnthropicFoundry(api_key=endpoint.api_key, base_url=endpoint.base_url, max_retries=0, **settings)
