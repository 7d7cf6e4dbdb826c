"""The Messages dialect, with the real SDK and over real HTTP."""

from typing import Any

import pytest

from providers.anthropic.events import MessagesDecoder
from providers.base import Usage
from tests.provider_requests import chat_request, route
from tests.recorded import MODES, Expected, bytewise, cut_anywhere, failures, files_of, load, replay, replayed
from tests.upstream import error_response, messages
from tests.upstream_providers import KEY, failure_of, open_providers

ROUTE = route("anthropic", reasoning="adaptive")


def used(output: int, input_tokens: int, *, thinking: int | None = None, cached: int | None = 0) -> Usage:
    return Usage(input_tokens, output, reasoning_tokens=thinking, cache_read_tokens=cached, cache_write_tokens=cached)


RECORDED: dict[str, Expected] = {
    "anthropic__thinking.sse": Expected(
        (
            ("reasoning", 202, "This is a straightforward question"),
            ("text", 1021, "Here are the basic steps"),
        ),
        "stop",
        used(282, 43),
        signed=(0,),
    ),
    "anthropic__tool-use.sse": Expected(
        (("text", 190, "I'll help you find"), ("tool_call", 61, '{"query": "Detroit Tigers')),
        "tool_calls",
        used(96, 465),
        names=("search",),
    ),
    "anthropic__web-search.chunks.txt": Expected(
        (("text", 2402, "Based on my search results"), *((("citation", 0, ""),) * 14)),
        "stop",
        used(795, 15665),
    ),
    "anthropic__haiku-plain.sse": Expected((("text", 5, "1\n2\n3"),), "stop", used(9, 15)),
    "anthropic__refusal-sdk-fixture.txt": Expected(
        (("refusal", 39, "This request was refused due to policy."),), "refusal", used(0, 20, cached=None)
    ),
    "anthropic__fallback-sdk-fixture.txt": Expected((("text", 12, "Hello there!"),), "stop", used(8, 25, cached=None)),
    "anthropic__incomplete-partial-json-sdk-fixture.txt": Expected(
        (("text", 135, "I'll create a comprehensive"), ("tool_call", 149, '{"filename": "taxes.txt", ')),
        "length",
        used(124, 450),
        names=("make_file",),
    ),
    "anthropic__fable5-refusal-midstream.sse": Expected(
        (("reasoning", 212, "Simple educational question"), ("text", 2, "Hi")),
        "refusal",
        used(106, 28, thinking=67),
        signed=(0,),
    ),
    "anthropic__duplicate-message-start.chunks.txt": Expected(
        (("text", 13, "Hello, World!"),), "stop", used(227, 17, cached=None)
    ),
}


@pytest.mark.parametrize("file", RECORDED)
async def test_recorded(file: str) -> None:
    """A recorded stream is decoded to the same answer in every mode of delivery."""
    script = load(file, "anthropic")
    async with open_providers() as (upstream, providers):
        for mode in MODES:
            RECORDED[file].check(await replay(upstream, providers, replayed(script, mode), ROUTE))
    RECORDED[file].check(bytewise(script, MessagesDecoder(failures("Anthropic"))))


@pytest.mark.parametrize("file", RECORDED)
async def test_recorded_stream_that_is_cut(file: str) -> None:
    """A recorded stream that is cut anywhere gives the whole answer or an error, and never wrong text."""
    async with open_providers() as (upstream, providers):
        await cut_anywhere(upstream, providers, load(file, "anthropic"), ROUTE, seed=len(file))


def test_every_recording_has_an_expected_result() -> None:
    """Every recording of this API has an expected result."""
    assert files_of("anthropic") == RECORDED.keys()


async def test_request() -> None:
    """The request has the API key and the API version, and no fields that the API rejects."""
    async with open_providers() as (upstream, providers):
        upstream.play(messages("Hello", "."))
        model_route = providers.catalog.resolve("claude-sonnet-5-5")
        answer = await providers.answer(
            chat_request("Hi", temperature=1.0, reasoning="low", model=model_route.model), model_route
        )
        assert (answer.text(), answer.finish, answer.usage) == ("Hello.", "stop", Usage(3, 2))
        received = upstream.requests[0]
        assert received.path == "/v1/messages"
        assert received.headers["authorization"] == f"Bearer {KEY}"
        assert received.headers["anthropic-version"] == "2026-10-21"
        assert received.body == {
            "model": "claude-sonnet-5-5",
            "max_tokens": 32_000,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
            "stream": True,
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": "low"},
            "cache_control": {"type": "ephemeral"},
        }


async def test_event_names_are_optional() -> None:
    """A stream without event names is decoded the same."""
    async with open_providers() as (upstream, providers):
        script = messages("Hello", ".")
        upstream.play(script.replace(blocks=tuple(block.split(b"\n", 1)[1] for block in script.blocks)))
        assert (await providers.answer(chat_request(), ROUTE)).text() == "Hello."


@pytest.mark.parametrize(
    ("script", "code", "retryable"),
    [
        (
            error_response(
                401,
                {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}},
            ),
            "upstream_auth",
            False,
        ),
        (
            error_response(529, {"type": "error", "error": {"type": "overloaded_error"}}, x_should_retry="true"),
            "upstream_overloaded",
            True,
        ),
        (
            error_response(404, {"type": "error", "error": {"type": "not_found_error", "message": "model: claude-9"}}),
            "model_not_found",
            False,
        ),
        (messages("a").replace(cut=300), "upstream_incomplete", True),
    ],
)
async def test_failures(script: Any, code: str, retryable: bool) -> None:
    """An error response or a cut stream is mapped to an error code, and the request is sent only once."""
    error = await failure_of(script, ROUTE)
    assert (error.code, error.retryable) == (code, retryable)
