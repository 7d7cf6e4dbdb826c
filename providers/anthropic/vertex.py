"""Anthropic's models on Google Vertex AI, called with the Vertex client of Anthropic's SDK.

Credentials are a token, or those that Google's library finds.
"""

from __future__ import annotations

from typing import Any, cast

from anthropic import AsyncAnthropicVertex
from google.auth.exceptions import GoogleAuthError

from providers.anthropic import messages as anthropic
from providers.endpoint import Endpoint


class Dialect(anthropic.Dialect):
    """The client for Vertex AI. See `dialect.Dialect`."""

    CREDENTIAL_ERRORS = (GoogleAuthError, RuntimeError)

    def _create_client(self, endpoint: Endpoint, **options: Any) -> Any:
        return AsyncAnthropicVertex(
            access_token=endpoint.api_key or None,
            base_url=endpoint.base_url or None,
            **cast(dict[str, Any], endpoint.options),
            **options,
        )
