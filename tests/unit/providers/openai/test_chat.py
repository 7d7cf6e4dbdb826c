"""The Chat Completions dialect, with the real SDK and over real HTTP."""

import asyncio
from typing import Any

import pytest

from providers.base import Usage
from providers.openai.chat_chunks import ChatDecoder
from providers.quirks import Quirks
from providers.timeouts import Timeouts
from tests.provider_requests import chat_request, route
from tests.recorded import MODES, Expected, bytewise, cut_anywhere, failures, files_of, load, replay, replayed
from tests.upstream import chat, error_response
from tests.upstream_providers import KEY, failure_of, open_providers

ROUTE = route()


def used(output: int, input_tokens: int, *, reasoning: int | None = None, cached: int | None = None) -> Usage:
    return Usage(input_tokens, output, reasoning_tokens=reasoning, cache_read_tokens=cached)


RECORDED: dict[str, Expected] = {
    "openai-chat__text-usage-chunk.chunks.txt": Expected(
        (("text", 1724, "**Holiday Name:** Harmony Day"),), "stop", used(300, 16, reasoning=0, cached=0)
    ),
    "openai-chat__refusal.sse": Expected(
        (("refusal", 44, "I'm sorry, I can't assist with that request."),),
        "refusal",
        used(11, 79, reasoning=0),
    ),
    "openai-chat__tool-call-parallel.sse": Expected(
        (
            ("tool_call", 52, '{"city": "Edinburgh", "country": "GB", "units": "c"}'),
            ("tool_call", 40, '{"ticker": "AAPL", "exchange": "NASDAQ"}'),
        ),
        "tool_calls",
        used(60, 149, reasoning=0),
        names=("GetWeatherArgs", "get_stock_price"),
    ),
    "azure-openai-chat__prompt-filter-first-chunk.sse": Expected(
        (("text", 141, "Why did the OpenTelemetry project become a stand-up comedian"),), "stop", None
    ),
    "azure-chat__deepseek-r1-reasoning.chunks.txt": Expected(
        (("reasoning", 3832, "We need to invent"), ("text", 2661, "Exciting news, Knicks fans—there's")),
        "stop",
        used(1720, 19),
    ),
    "deepseek-chat__reasoning.chunks.txt": Expected(
        (("reasoning", 606, "We need to count"), ("text", 42, 'The word "strawberry" contains three "r"s.')),
        "stop",
        used(219, 18, reasoning=205, cached=0),
    ),
    "deepseek-chat__tool-call.chunks.txt": Expected(
        (("reasoning", 191, "The user is asking"), ("tool_call", 29, '{"location": "San Francisco"}')),
        "tool_calls",
        used(83, 339, reasoning=39, cached=320),
        names=("weather",),
    ),
    "zai-chat__glm47-thinking.sse": Expected(
        (("reasoning", 2173, "\n1.  **Analyze"), ("text", 1, "4")),
        "stop",
        used(564, 13, reasoning=561, cached=0),
    ),
    "moonshot-chat__kimi-k3-synthetic.chunks.txt": Expected(
        (("reasoning", 16, "Thinking aloud. "), ("text", 6, "Hello!")), "stop", used(12, 9, reasoning=7)
    ),
    "qwen-chat__reasoning.chunks.txt": Expected(
        (("reasoning", 3301, "We are asked"), ("text", 816, "The word **")),
        "stop",
        used(1355, 24, reasoning=1084, cached=0),
    ),
    "mistral-chat__incremental-tool-call.chunks.txt": Expected(
        (("tool_call", 35, '{"query": "current Berlin weather"}'),),
        "tool_calls",
        used(14, 171, cached=128),
        names=("webSearchTool",),
    ),
    "xai-chat__tool-call.chunks.txt": Expected(
        (("reasoning", 1069, "First, the user"), ("tool_call", 28, '{"location":"San Francisco"}')),
        "tool_calls",
        used(26, 307, reasoning=227, cached=306),
        names=("weather",),
    ),
    "openrouter-chat__midstream-error.sse": Expected(
        (("reasoning", 42, "We need to respond to a greeting. The user"),),
        None,
        used(10, 43, reasoning=11, cached=0),
        code="invalid_request",
    ),
    "openrouter-chat__anthropic-reasoning.sse": Expected(
        (("reasoning", 51, "This is a simple arithmetic question."), ("text", 9, "2 + 2 = 4")),
        "stop",
        used(36, 43, reasoning=13, cached=0),
        signed=(0,),
    ),
    "ollama-cloud-chat__gpt-oss.sse": Expected(
        (("reasoning", 119, 'The task: "Count'), ("text", 9, "1  \n2  \n3")), "stop", used(53, 74)
    ),
}


@pytest.mark.parametrize("file", RECORDED)
async def test_recorded(file: str) -> None:
    """A recorded stream is decoded to the same answer in every mode of delivery."""
    script = load(file, "openai-chat")
    async with open_providers() as (upstream, providers):
        for mode in MODES:
            RECORDED[file].check(await replay(upstream, providers, replayed(script, mode), ROUTE))
    RECORDED[file].check(bytewise(script, ChatDecoder(Quirks(), failures("OpenAI"))))


@pytest.mark.parametrize("file", RECORDED)
async def test_recorded_stream_that_is_cut(file: str) -> None:
    """A recorded stream that is cut anywhere gives the whole answer or an error, and never wrong text."""
    async with open_providers() as (upstream, providers):
        await cut_anywhere(upstream, providers, load(file, "openai-chat"), ROUTE, seed=len(file))


def test_every_recording_has_an_expected_result() -> None:
    """Every recording of this API has an expected result."""
    assert files_of("openai-chat") == RECORDED.keys()


async def test_request() -> None:
    """The SDK adds the API key and sends the body from the request builder."""
    async with open_providers() as (upstream, providers):
        answer = await providers.answer(chat_request("Hi", reasoning="low"), route(reasoning="thinking"))
        assert (answer.text(), answer.finish) == ("Hello.", "stop")
        received = upstream.requests[0]
        assert received.path == "/v1/chat/completions"
        assert received.headers["authorization"] == f"Bearer {KEY}"
        assert received.body["thinking"] == {"type": "enabled"}
        assert received.body["messages"] == [{"role": "user", "content": "Hi"}]


async def test_connection_is_reused() -> None:
    """After a complete answer its connection is reused, if the response ends soon."""
    async with open_providers() as (upstream, providers):
        ends_late = chat("a")
        upstream.play(ends_late.replace(blocks=(*ends_late.blocks, b": bye\n\n"), rate=50))
        for _ in range(3):
            assert (await providers.answer(chat_request(), ROUTE)).finish == "stop"
        assert upstream.connections == 1


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (error_response(401, {"error": {"message": "Incorrect API key provided: sk-a"}}), "upstream_auth"),
        (error_response(429, {"error": {"message": "slow"}}, retry_after="3"), "upstream_rate_limited"),
        (error_response(500, "<html>"), "upstream_error"),
        (error_response(307, "", location="/elsewhere"), "upstream_error"),
        (chat("a").replace(status=503), "upstream_overloaded"),
        (chat("a").replace(cut=0), "upstream_incomplete"),
    ],
)
async def test_failures(script: Any, code: str) -> None:
    """An error response or a cut stream is mapped to an error code, and the request is sent only once.

    The error has neither the host nor the key.
    """
    error = await failure_of(script, ROUTE)
    assert error.code == code
    assert "127.0.0.1" not in error.message
    assert KEY not in error.message + error.detail
    assert error.retry_after_ms == (3000 if code == "upstream_rate_limited" else None)


async def test_unreachable_provider() -> None:
    """If the provider isn't reachable, the error is retryable."""
    async with open_providers() as (upstream, providers):
        await upstream.__aexit__()
        answer = await providers.answer(chat_request(), ROUTE)
        assert answer.code == "upstream_error"
        assert answer.error is not None
        assert answer.error.retryable
        assert "reached" in answer.error.message


@pytest.mark.parametrize(
    ("script", "word"), [(chat("a").replace(delay_s=60), "begin"), (chat("a").replace(stall_after=1), "middle")]
)
async def test_timeouts(script: Any, word: str) -> None:
    """A provider that doesn't start, or doesn't continue, times out."""
    quick = Timeouts(first_event_s=0.2, between_events_s=0.2)
    async with open_providers(quick) as (upstream, providers):
        upstream.play(script)
        answer = await providers.answer(chat_request(), ROUTE)
        assert answer.code == "upstream_timeout"
        assert answer.error is not None
        assert word in answer.error.message


async def test_many_simultaneous_streams() -> None:
    """Two hundred simultaneous streams are all answered completely."""
    async with open_providers() as (upstream, providers):
        words = [f"word{number} " for number in range(20)]
        upstream.play(chat(*words).replace(rate=200))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(providers.answer(chat_request(), ROUTE)) for _ in range(200)]
        assert {task.result().text() for task in tasks} == {"".join(words)}
