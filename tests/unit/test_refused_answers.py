"""Answers that refuse, from a real upstream: however much they say and however slowly, they cost little (law 11)."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from providers.base import ResponseHandle
from providers.http.body import ERROR_BODY_BYTES_MAX
from providers.http.transport import body_of
from providers.route import Route, Timeouts
from tests.answers import Answer, UpstreamProviders, chat_request, open_providers, route
from tests.upstream import RESPONSE, Script, Upstream, chat, error_response, post

pytestmark = pytest.mark.usefixtures("frozen")

CPU_S = 0.5
"""For all that is done in this thread, the upstream's part too."""
HELD_S = 0.2
"""So long the loop may do one thing."""
READ_BYTES = {"plain": 512 * 1024, "packed": 2 * 1024 * 1024}
"""What aiohttp and one read of a socket may hold beside it; it unpacks 768 KiB at once."""

MODELS: dict[str, str | Route] = {
    "chat": route(),
    "responses": route("openai_responses"),
    "anthropic": route("anthropic"),
    "bedrock": "bedrock/global.anthropic.claude-opus-5-5",
    "vertex": "vertex/claude-opus-5-5",
    "foundry": "foundry/my-claude",
}
TOO_LONG = {"type": "invalid_request_error", "message": "prompt is too long: 250000 tokens > 200000 maximum"}


@asynccontextmanager
async def not_held(cpu_s: float = CPU_S) -> AsyncIterator[None]:
    """Nothing in the block holds the loop, or takes much of it; in CPU, as the machine may be busy."""
    longest, ticking = 0.0, True

    async def tick() -> None:
        nonlocal longest
        before = time.thread_time()
        while ticking:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, before = max(longest, now - before), now

    began = time.thread_time()
    async with asyncio.TaskGroup() as tasks:
        ticker = tasks.create_task(tick())
        try:
            yield
        finally:
            ticking = False
            await asyncio.wait([ticker])
    assert longest < HELD_S
    assert time.thread_time() - began < cpu_s


async def ask(providers: UpstreamProviders, model: str | Route, text: str = "Hi") -> Answer:
    """What the model answers."""
    return await (
        providers.answer_model(model) if isinstance(model, str) else providers.answer(chat_request(text), model)
    )


def large(body: dict[str, Any], status: int = 400, **how: Any) -> Script:
    """The body with 48 MB behind what it says."""
    head = json.dumps(body).removesuffix("}").encode() + b', "echo": ['
    blocks = (head, *(b"[],1,2,3," * 7_000,) * 762, b"[]]}")
    return Script(blocks, status=status, headers=(("content-type", "application/json"),), **how)


def endless(status: int, beginning: bytes = b"", **how: Any) -> Script:
    """A body that goes on for 64 GB."""
    return Script((beginning, *(b"[" * 64 * 1024,) * 1_000_000), status=status, **how)


def said(answer: Answer) -> tuple[Any, ...]:
    """What clients and logs are told."""
    error = answer.error
    assert error is not None
    return error.code, error.message, error.retryable, error.detail, error.provider_text


@pytest.mark.parametrize("how", [{}, {"chunked": False}], ids=["chunked", "until it closes"])
@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
async def test_a_large_refusal(model: str | Route, how: dict[str, Any]) -> None:
    """It says what it says when it is small; most of it is never read, and its connection serves nobody else."""
    async with open_providers() as (upstream, providers):
        upstream.play(error_response(400, {"error": TOO_LONG}), large({"error": TOO_LONG}, **how), chat("a"))
        small = said(await ask(providers, model))
        assert small[0] == "context_length_exceeded"
        async with not_held():
            assert said(await ask(providers, model)) == small
        async with asyncio.timeout(5):
            await upstream.requests[1].disconnected.wait()
        await ask(providers, model)
        first, second, third = (received.connection for received in upstream.requests)
        assert first == second != third


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
async def test_a_refusal_without_end(model: str | Route) -> None:
    """It ends here, by its status, and the upstream sees that."""
    async with open_providers() as (upstream, providers):
        upstream.play(error_response(503, "no"), endless(503))
        small = said(await ask(providers, model))
        async with not_held():
            long = said(await ask(providers, model))
        assert small[:3] == long[:3]
        assert small[0] == "upstream_overloaded"
        async with asyncio.timeout(5):
            await upstream.requests[1].disconnected.wait()


async def test_a_refusal_that_stops_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has come says what is wrong; nobody waits for the rest for long."""
    monkeypatch.setattr("providers.http.transport.ERROR_BODY_S", 0.3)
    half = json.dumps({"error": TOO_LONG})[:-4].encode()
    for script in (
        Script((half, b'"}}'), status=400, stall_after=1),
        Script((half, *(b"a",) * 1_000_000), status=400, rate=100),
    ):
        async with open_providers() as (upstream, providers), asyncio.timeout(10):
            upstream.play(script)
            assert (await ask(providers, route())).code == "context_length_exceeded"
            await upstream.requests[0].disconnected.wait()


async def test_a_refusal_that_is_cut_off() -> None:
    """Its status, its headers and its beginning say what it means."""
    script = Script((b'{"error":{"message":"slow do', b""), status=429, cut=28, headers=(("retry-after", "7"),))
    async with open_providers() as (upstream, providers):
        upstream.play(script)
        answer = await ask(providers, route())
        assert answer.error is not None
        assert (answer.code, answer.error.retry_after_ms) == ("upstream_rate_limited", 7000)


async def test_a_refusal_that_echoes() -> None:
    """What a client sent comes back; the loop isn't held, and of the words as little is kept as of others."""
    echo = "a" * 40_000
    async with open_providers() as (upstream, providers):
        body = {"error": {"type": "invalid_request_error", "message": f"I don't like {echo} at all"}}
        upstream.play(error_response(400, body))
        await ask(providers, route())
        async with not_held():
            answer = await ask(providers, route(), echo)
        assert answer.error is not None
        assert answer.code == "invalid_request"
        assert answer.error.provider_text == "I don't like ***"


def packed(size: int) -> bytes:
    """So much of nothing, in gzip."""
    pack = zlib.compressobj(wbits=31)
    return b"".join(pack.compress(bytes(1024 * 1024)) for _ in range(size // 1024 // 1024)) + pack.flush()


@pytest.mark.parametrize("kind", READ_BYTES)
async def test_how_much_is_read(client: httpx2.AsyncClient, upstream: Upstream, kind: str) -> None:
    """64 KiB are handed on; behind them the socket isn't read."""
    script = endless(400)
    if kind == "packed":
        script = Script((packed(256 * 1024 * 1024),), status=400, headers=(("content-encoding", "gzip"),))
    upstream.play(script)
    async with not_held():
        response = await post(client, upstream)
        assert len(await response.aread()) == ERROR_BODY_BYTES_MAX
    assert body_of(response)._content.total_bytes <= ERROR_BODY_BYTES_MAX + READ_BYTES[kind]
    await response.aclose()


async def test_a_charset_that_is_slow(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """The provider doesn't choose how its words are decoded: Punycode takes a second for 64 KiB."""
    body = "-" + "a" * 60_000
    upstream.play(Script((body.encode(),), status=400, headers=(("content-type", "text/plain; charset=punycode"),)))
    async with not_held():
        response = await post(client, upstream)
        await response.aread()
        assert response.text == body


@pytest.mark.parametrize("status", [301, 400, 500])
async def test_a_small_refusal_leaves_its_connection(
    client: httpx2.AsyncClient, upstream: Upstream, status: int
) -> None:
    """It was read to its end, so that the next request goes there too."""
    upstream.play(error_response(status, {"error": "x" * 1000}))
    for _ in range(3):
        response = await post(client, upstream)
        assert json.loads(await response.aread()) == {"error": "x" * 1000}
        await response.aclose()
    assert upstream.connections == 1


async def test_a_stop_that_is_answered_at_length() -> None:
    """The answer to a wish to stop says nothing that is needed, so no more of it is read."""

    class Talkative(Upstream):
        def _background_answer(self, method: str, path: str, query: str) -> Script | None:
            return endless(200) if method == "POST" and path.endswith("/cancel") else None

    async with Talkative() as upstream:
        providers = UpstreamProviders(upstream, Timeouts(), environment={"OPENAI_API_KEY": "sk-0123456789abcdef"})
        try:
            await providers.providers.stop(ResponseHandle("gpt-6-sol", RESPONSE))
            async with not_held(), asyncio.timeout(10):
                await providers.providers.stop(ResponseHandle("gpt-6-sol", RESPONSE))
                await upstream.requests[1].disconnected.wait()
        finally:
            await providers.providers.aclose()
