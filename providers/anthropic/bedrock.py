"""Anthropic's models on Amazon Bedrock, called with the Bedrock client of Anthropic's SDK.

Credentials are a bearer token or AWS credentials.
"""

from __future__ import annotations

from typing import Any

from anthropic import AsyncAnthropicBedrock
from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]

from providers.anthropic import messages as anthropic
from providers.endpoint import Endpoint
from providers.http.aws_events import AwsEventParser


class Dialect(anthropic.Dialect):
    """The client for Bedrock. See `dialect.Dialect`."""

    CREDENTIAL_ERRORS = (BotoCoreError, RuntimeError)
    PARSER = AwsEventParser

    def _create_client(self, endpoint: Endpoint, **options: Any) -> Any:
        credentials: dict[str, Any] = dict(endpoint.options)
        if endpoint.api_key:
            # The SDK accepts only one kind of credentials.
            region = credentials.get("aws_region")
            credentials = {"api_key": endpoint.api_key} | ({"aws_region": region} if region else {})
        elif "aws_access_key" in credentials:
            credentials.pop("aws_profile", None)
        return AsyncAnthropicBedrock(base_url=endpoint.base_url or None, **credentials, **options)
