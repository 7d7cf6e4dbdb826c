"""Bedrock, with the real SDK and over real HTTP."""

import re
from typing import Any

import pytest

from providers.base import Tool, Usage
from tests.aws_frames import chunk, exception, framed
from tests.upstream import error_response, messages
from tests.upstream_providers import open_providers

MODEL = "bedrock/global.anthropic.claude-opus-5-5"
TOKEN = {"AWS_BEARER_TOKEN_BEDROCK": "bedrock-token-0123456789", "AWS_REGION": "eu-west-1"}
SIGNED = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE0123456",
    "AWS_SECRET_ACCESS_KEY": "secret-access-key-0123456789",
    "AWS_SESSION_TOKEN": "session-token-0123456789",
    "AWS_REGION": "eu-west-1",
    "AWS_PROFILE": "ignored",
}
HELLO = framed(messages("Hel", "lo ", "wörld 🙂"))


@pytest.mark.parametrize("way", [{}, {"write": "whole"}, {"write": "piece", "piece": 3}], ids=str)
async def test_answers(way: dict[str, Any]) -> None:
    """Bedrock's binary frames are decoded however they are split, and the request has the form that Bedrock takes."""
    async with open_providers(environment=TOKEN) as (upstream, providers):
        upstream.play(HELLO.replace(**way))
        answer = await providers.answer_model(MODEL, tools=(Tool("f"),))
        assert (answer.text(), answer.finish, answer.error) == ("Hello wörld 🙂", "stop", None)
        assert answer.usage == Usage(input_tokens=3, output_tokens=3)
        (received,) = upstream.requests
        assert received.path == "/model/global.anthropic.claude-opus-5-5/invoke-with-response-stream"
        assert received.headers["authorization"] == "Bearer bedrock-token-0123456789"
        assert not {"model", "stream"} & set(received.body)
        assert re.fullmatch(r"[\w-]+", received.body["anthropic_version"])
        assert received.body["tools"][0]["name"] == "f"


async def test_requests_are_signed_with_credentials() -> None:
    """Without a bearer token, the request is signed for the region and carries the session token."""
    async with open_providers(environment=SIGNED) as (upstream, providers):
        upstream.play(HELLO)
        assert (await providers.answer_model(MODEL)).text() == "Hello wörld 🙂"
        (received,) = upstream.requests
        assert re.match(
            r"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE0123456/\d+/eu-west-1/bedrock/aws4_request",
            received.headers["authorization"],
        )
        assert received.headers["x-amz-security-token"] == "session-token-0123456789"
        assert "secret-access-key" not in repr(providers.catalog.endpoint("bedrock"))


async def test_missing_credentials() -> None:
    """A profile that doesn't exist is reported as an auth error before anything is sent."""
    async with open_providers(environment={"AWS_PROFILE": "no-such-profile", "AWS_REGION": "eu-west-1"}) as (
        upstream,
        providers,
    ):
        answer = await providers.answer_model(MODEL)
        assert answer.code == "upstream_auth"
        assert answer.error is not None
        assert "has no valid credentials for" in answer.error.message
        assert "AWS_BEARER_TOKEN_BEDROCK" in answer.error.message
        assert not upstream.requests


START = {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}


@pytest.mark.parametrize(
    ("name", "code", "retryable"),
    [
        ("throttlingException", "upstream_rate_limited", True),
        ("serviceUnavailableException", "upstream_overloaded", True),
        ("modelTimeoutException", "upstream_timeout", True),
        ("modelStreamErrorException", "upstream_error", True),
        ("internalServerException", "upstream_error", True),
        ("validationException", "invalid_request", False),
    ],
)
async def test_an_exception_in_the_stream(name: str, code: str, retryable: bool) -> None:
    """An exception in the middle of a stream is mapped to its error code."""
    async with open_providers(environment=TOKEN) as (upstream, providers):
        upstream.play(HELLO.replace(blocks=(chunk(START), exception(name, "no"))))
        answer = await providers.answer_model(MODEL)
        assert answer.error is not None
        assert (answer.code, answer.error.retryable) == (code, retryable)


@pytest.mark.parametrize("cut", [0, 20, 150, 400])
async def test_a_cut_stream_is_incomplete(cut: int) -> None:
    """A partial frame isn't an event, so a stream that is cut off is incomplete."""
    async with open_providers(environment=TOKEN) as (upstream, providers):
        upstream.play(HELLO.replace(cut=cut))
        answer = await providers.answer_model(MODEL)
        assert answer.code == "upstream_incomplete"
        assert "Hello wörld 🙂".startswith(answer.text())


@pytest.mark.parametrize(
    ("status", "message", "code", "retryable"),
    [
        (403, "User is not authorized to perform: bedrock:InvokeModel", "upstream_auth", False),
        (403, "The security token included in the request is expired", "upstream_auth", False),
        (429, "Too many requests, please wait", "upstream_rate_limited", True),
        (400, "Malformed input request", "invalid_request", False),
        (404, "Could not resolve the foundation model from the provided model identifier.", "model_not_found", False),
        (503, "Bedrock is unable to process your request.", "upstream_overloaded", True),
    ],
)
async def test_error_responses(status: int, message: str, code: str, retryable: bool) -> None:
    """An error response, whose body has only a message, is mapped to its error code."""
    async with open_providers(environment=TOKEN) as (upstream, providers):
        upstream.play(error_response(status, {"message": message}))
        answer = await providers.answer_model(MODEL)
        assert answer.error is not None
        assert (answer.code, answer.error.retryable) == (code, retryable)
