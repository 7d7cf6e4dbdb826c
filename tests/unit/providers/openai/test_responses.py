"""The Responses dialect, with the real SDK and over real HTTP."""

from typing import Any

import pytest
from msgspec import structs

from providers.base import CitationPart, PartDelta, ProviderError, ResponseHandle, TextPart, Usage
from providers.openai.responses_events import ResponsesDecoder
from providers.quirks import Quirks
from tests.answers import Batches
from tests.provider_requests import chat_request, route
from tests.recorded import MODES, Expected, bytewise, cut_anywhere, failures, files_of, load, replay, replayed
from tests.upstream import RESPONSE, error_response, responses
from tests.upstream_providers import KEY, failure_of, open_providers

ROUTE = route("openai_responses")


def used(output: int, input_tokens: int, reasoning: int, cached: int, written: int | None = None) -> Usage:
    return Usage(input_tokens, output, reasoning, cached, written)


RECORDED: dict[str, Expected] = {
    "openai-responses__gpt5-nano.sse": Expected(
        (("reasoning", 0, ""), ("text", 7, "1, 2, 3")), "stop", used(284, 13, 256, 0, 0), signed=(0,)
    ),
    # The file has four responses in sequence. Decoding ends at the end of the first one.
    "openai-responses__reasoning-encrypted-toolcall.chunks.txt": Expected(
        (("reasoning", 163, "**Calculating step-by-step"), ("tool_call", 25, '{"a":12,"b":7,"op":"add"}')),
        "tool_calls",
        used(28, 134, 0, 0),
        signed=(0,),
        names=("calculator",),
    ),
    "openai-responses__error-then-failed.chunks.txt": Expected((), None, None, code="upstream_rate_limited"),
    "openai-responses__rate-limited.json": Expected((), None, None, code="upstream_rate_limited"),
    "xai-responses__reasoning.chunks.txt": Expected(
        (("reasoning", 766, "First, the question is"), ("text", 2849, "### Overview of Sonoran Cuisine\n")),
        "stop",
        used(923, 216, 323, 192),
    ),
    "deepseek-responses__function-tool.sse": Expected(
        (("reasoning", 61, "The user asks about temperature in Tokyo."), ("tool_call", 17, '{"city": "Tokyo"}')),
        "tool_calls",
        used(59, 366, 14, 256),
        names=("get_temperature",),
    ),
    "lmstudio-responses__tool-call.chunks.txt": Expected(
        (
            ("reasoning", 242, "The user is asking for the weather"),
            ("text", 67, "I'll get the current weather"),
            ("tool_call", 28, '{"location":"San Francisco"}'),
        ),
        "tool_calls",
        used(61, 182, 48, 2),
        names=("weather",),
    ),
}


@pytest.mark.parametrize("file", RECORDED)
async def test_recorded(file: str) -> None:
    """A recorded stream is decoded to the same answer in every mode of delivery."""
    script = load(file, "openai-responses")
    async with open_providers() as (upstream, providers):
        for mode in MODES:
            RECORDED[file].check(await replay(upstream, providers, replayed(script, mode), ROUTE))
    RECORDED[file].check(bytewise(script, ResponsesDecoder(Quirks(), failures("OpenAI"))))


@pytest.mark.parametrize("file", RECORDED)
async def test_recorded_stream_that_is_cut(file: str) -> None:
    """A recorded stream that is cut anywhere gives the whole answer or an error, and never wrong text."""
    async with open_providers() as (upstream, providers):
        await cut_anywhere(upstream, providers, load(file, "openai-responses"), ROUTE, seed=len(file))


def test_every_recording_has_an_expected_result() -> None:
    """Every recording of this API has an expected result."""
    assert files_of("openai-responses") == RECORDED.keys()


async def test_request() -> None:
    """The SDK adds the API key and sends the request builder's body. That body turns off storage at the provider."""
    async with open_providers() as (upstream, providers):
        upstream.play(responses("Hello", "."))
        model_route = providers.catalog.resolve("gpt-6.1-sol")
        answer = await providers.answer(
            chat_request("Hi", reasoning="none", temperature=1, model=model_route.model), model_route
        )
        assert (answer.text(), answer.finish, answer.usage) == ("Hello.", "stop", Usage(5, 2))
        received = upstream.requests[0]
        assert received.path == "/v1/responses"
        assert received.headers["authorization"] == f"Bearer {KEY}"
        assert received.body == {
            "model": "gpt-6.1-sol",
            "input": [{"role": "user", "content": "Hi"}],
            "stream": True,
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "stream_options": {"include_obfuscation": False},
            "reasoning": {"effort": "low", "summary": "auto"},
        }


@pytest.mark.parametrize(
    ("script", "code", "retryable"),
    [
        (error_response(401, {"error": {"message": "Incorrect API key provided: sk-a"}}), "upstream_auth", False),
        (error_response(500, "<html>"), "upstream_error", True),
        (responses("a").replace(cut=300), "upstream_incomplete", True),
    ],
)
async def test_failures(script: Any, code: str, retryable: bool) -> None:
    """An error response or a cut stream is mapped to an error code, and the request is sent only once."""
    error = await failure_of(script, ROUTE)
    assert (error.code, error.retryable) == (code, retryable)


BACKGROUND = route("openai_responses", features=("chat", "thinking"), background=True)


async def test_background_answer_is_continued() -> None:
    """A background answer starts with its response handle, and a later request continues it after the received text."""
    async with open_providers() as (upstream, providers):
        upstream.play(responses("Hel", "lo", "."))
        await providers.providers.client(BACKGROUND).answer(chat_request(), first := Batches())
        batches = first.deltas
        assert upstream.requests[0].body["background"] is True
        assert upstream.requests[0].body["store"] is True
        assert batches[0] == ResponseHandle("m", RESPONSE)
        continued = chat_request().continuing([TextPart("Hell")], ResponseHandle("m", RESPONSE))
        await providers.providers.client(BACKGROUND).answer(continued, second := Batches())
        rest = second.deltas
        assert "".join(delta.text or "" for delta in rest if isinstance(delta, PartDelta)) == "o."
        received = upstream.requests[1]
        assert received.method == "GET"
        assert received.path.startswith(f"/v1/responses/{RESPONSE}?")
        assert "stream=true" in received.path
        assert "reasoning.encrypted_content" in received.path


async def test_the_rest_of_an_answer_may_be_empty() -> None:
    """A model that is asked for the rest of its answer may have said all. Any other empty answer is incomplete."""
    async with open_providers() as (upstream, providers):
        for is_rest, code in ((True, None), (False, "upstream_incomplete")):
            upstream.play(responses(""))
            request = structs.replace(chat_request(), is_continuation=is_rest)
            assert (await providers.answer(request, ROUTE)).code == code


async def test_missing_background_answer() -> None:
    """A background answer that the provider no longer has, or that differs from the received parts, is incomplete."""
    async with open_providers() as (upstream, providers):
        gone = chat_request().continuing([], ResponseHandle("m", "resp_0"))
        assert (await providers.answer(gone, BACKGROUND)).code == "upstream_incomplete"
        upstream.play(responses("Hello"))
        await providers.answer(chat_request(), BACKGROUND)
        other = chat_request().continuing([CitationPart("u")], ResponseHandle("m", RESPONSE))
        assert (await providers.answer(other, BACKGROUND)).code == "upstream_incomplete"


async def test_cancel_of_a_background_answer() -> None:
    """A background answer is cancelled by its id. An unknown id is an error, and other dialects ignore the call."""
    async with open_providers() as (upstream, providers):
        upstream.play(responses("Hello"))
        await providers.answer(chat_request(), BACKGROUND)
        await providers.providers.stop(ResponseHandle("gpt-6-sol", RESPONSE))
        assert upstream.cancelled == [RESPONSE]
        assert upstream.requests[-1].path == f"/v1/responses/{RESPONSE}/cancel"
        with pytest.raises(ProviderError):
            await providers.providers.stop(ResponseHandle("gpt-6-sol", RESPONSE))
        await providers.providers.stop(ResponseHandle("claude-haiku-4-5", RESPONSE))
