"""Anthropic's models on Amazon Bedrock, by the Bedrock client of Anthropic's SDK: bearer token or AWS credentials."""

from __future__ import annotations

from typing import Any

from anthropic import AsyncAnthropicBedrock
from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]

from providers.anthropic import messages as anthropic
from providers.http.aws_events import AwsEventParser
from providers.http.stream import Parser
from providers.route import Endpoint


class Dialect(anthropic.Dialect):
    """The client for Bedrock. See `route.Dialect`."""

    NO_CREDENTIALS = (BotoCoreError, RuntimeError)

    def _connect(self, endpoint: Endpoint, **settings: Any) -> Any:
        options: dict[str, Any] = dict(endpoint.options)
        if endpoint.api_key:
            # The SDK accepts only one kind of credentials.
            region = options.get("aws_region")
            options = {"api_key": endpoint.api_key} | ({"aws_region": region} if region else {})
        elif "aws_access_key" in options:
            options.pop("aws_profile", None)
        return AsyncAnthropicBedrock(base_url=endpoint.base_url or None, max_retries=0, **options, **settings)

    def _parser(self) -> Parser | None:
        return AwsEventParser()
