"""Error responses from a real upstream cost little, however long or slow they are (law 11)."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import repeat
from typing import Any

import httpx2
import pytest

from providers.base import ResponseHandle
from providers.http.transport import body_of
from providers.http.transport_errors import ERROR_BODY_BYTES_MAX
from providers.route import Route
from providers.timeouts import Timeouts
from tests.answers import Answer
from tests.provider_requests import chat_request, route
from tests.upstream import RESPONSE, Script, Upstream, chat, error_response, post
from tests.upstream_providers import UpstreamProviders, open_providers

CPU_S = 0.5
"""The bound for all CPU time of this thread, including the upstream's."""
BLOCKED_MAX_S = 0.2
"""How long one callback may block the loop."""
READ_BYTES = {"plain": 512 * 1024, "packed": 2 * 1024 * 1024}
"""How many more bytes aiohttp and one read of the socket may hold. aiohttp decompresses 768 KiB at a time."""

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
async def loop_not_blocked(cpu_s: float = CPU_S) -> AsyncIterator[None]:
    """Check that the code in the `with` doesn't block the loop or use much CPU. CPU time counts: the machine may be busy."""
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
    assert longest < BLOCKED_MAX_S
    assert time.thread_time() - began < cpu_s


async def ask(providers: UpstreamProviders, model: str | Route, text: str = "Hi") -> Answer:
    """Return the model's answer."""
    return await (
        providers.answer_model(model) if isinstance(model, str) else providers.answer(chat_request(text), model)
    )


def large(body: dict[str, Any], status: int = 400, **how: Any) -> Script:
    """Return the body with 48 MB of data after its own fields."""
    head = json.dumps(body).removesuffix("}").encode() + b', "echo": ['
    blocks = (head, *(b"[],1,2,3," * 7_000,) * 762, b"[]]}")
    return Script(blocks, status=status, headers=(("content-type", "application/json"),), **how)


def endless(status: int, beginning: bytes = b"", **how: Any) -> Script:
    """Return a body of 64 GB."""
    return Script((beginning, *repeat(b"[" * 64 * 1024, 1_000_000)), status=status, **how)


def reported_error(answer: Answer) -> tuple[Any, ...]:
    """Return the fields of the error that clients and logs get."""
    error = answer.error
    assert error is not None
    return error.code, error.message, error.retryable, error.detail, error.provider_text


@pytest.mark.parametrize("how", [{}, {"chunked": False}], ids=["chunked", "until close"])
@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
async def test_a_large_error_response(model: str | Route, how: dict[str, Any]) -> None:
    """A large error response gives the same error as a small one. Most of it is unread; its connection isn't reused."""
    async with open_providers() as (upstream, providers):
        upstream.play(error_response(400, {"error": TOO_LONG}), large({"error": TOO_LONG}, **how), chat("a"))
        small = reported_error(await ask(providers, model))
        assert small[0] == "context_length_exceeded"
        async with loop_not_blocked():
            assert reported_error(await ask(providers, model)) == small
        async with asyncio.timeout(5):
            await upstream.requests[1].disconnected.wait()
        await ask(providers, model)
        first, second, third = (received.connection for received in upstream.requests)
        assert first == second != third


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
async def test_an_endless_error_response(model: str | Route) -> None:
    """The gateway disconnects from an upstream whose error response is endless, and maps the error by its status."""
    async with open_providers() as (upstream, providers):
        upstream.play(error_response(503, "no"), endless(503))
        small = reported_error(await ask(providers, model))
        async with loop_not_blocked():
            long = reported_error(await ask(providers, model))
        assert small[:3] == long[:3]
        assert small[0] == "upstream_overloaded"
        async with asyncio.timeout(5):
            await upstream.requests[1].disconnected.wait()


async def test_an_error_response_that_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is read from the part that has arrived, and the wait for the rest is short."""
    monkeypatch.setattr("providers.http.transport.ERROR_BODY_S", 0.3)
    half = json.dumps({"error": TOO_LONG})[:-4].encode()
    for script in (
        Script((half, b'"}}'), status=400, stall_after=1),
        Script((half, *repeat(b"a", 1_000_000)), status=400, rate=100),
    ):
        async with open_providers() as (upstream, providers), asyncio.timeout(10):
            upstream.play(script)
            assert (await ask(providers, route())).code == "context_length_exceeded"
            await upstream.requests[0].disconnected.wait()


async def test_an_error_response_that_is_cut_off() -> None:
    """The status, the headers and the first bytes give the error's code and its retry delay."""
    script = Script((b'{"error":{"message":"slow do', b""), status=429, cut=28, headers=(("retry-after", "7"),))
    async with open_providers() as (upstream, providers):
        upstream.play(script)
        answer = await ask(providers, route())
        assert answer.error is not None
        assert (answer.code, answer.error.retry_after_ms) == ("upstream_rate_limited", 7000)


async def test_an_error_response_that_echoes_the_request() -> None:
    """An error that echoes the request doesn't block the loop, and the echoed text is redacted as usual."""
    echo = "a" * 40_000
    async with open_providers() as (upstream, providers):
        body = {"error": {"type": "invalid_request_error", "message": f"I don't like {echo} at all"}}
        upstream.play(error_response(400, body))
        await ask(providers, route())
        async with loop_not_blocked():
            answer = await ask(providers, route(), echo)
        assert answer.error is not None
        assert answer.code == "invalid_request"
        assert answer.error.provider_text == "I don't like ***"


def packed(size: int) -> bytes:
    """Return `size` zero bytes, compressed with gzip."""
    pack = zlib.compressobj(wbits=31)
    return b"".join(pack.compress(bytes(1024 * 1024)) for _ in range(size // 1024 // 1024)) + pack.flush()


@pytest.mark.parametrize("kind", READ_BYTES)
async def test_an_endless_error_body_is_read_up_to_a_limit(
    client: httpx2.AsyncClient, upstream: Upstream, kind: str
) -> None:
    """At most 64 KiB of the body are returned, and the socket isn't read much further."""
    script = endless(400)
    if kind == "packed":
        script = Script((packed(256 * 1024 * 1024),), status=400, headers=(("content-encoding", "gzip"),))
    upstream.play(script)
    async with loop_not_blocked():
        response = await post(client, upstream)
        assert len(await response.aread()) == ERROR_BODY_BYTES_MAX
    assert body_of(response)._content.total_bytes <= ERROR_BODY_BYTES_MAX + READ_BYTES[kind]
    await response.aclose()


async def test_a_slow_charset_is_ignored(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """The provider's charset isn't used for decoding: Punycode would take a second for 64 KiB."""
    body = "-" + "a" * 60_000
    upstream.play(Script((body.encode(),), status=400, headers=(("content-type", "text/plain; charset=punycode"),)))
    async with loop_not_blocked():
        response = await post(client, upstream)
        await response.aread()
        assert response.text == body


@pytest.mark.parametrize("status", [301, 400, 500])
async def test_a_small_error_response_keeps_its_connection(
    client: httpx2.AsyncClient, upstream: Upstream, status: int
) -> None:
    """A small error response is read to its end, so that the next request uses the same connection."""
    upstream.play(error_response(status, {"error": "x" * 1000}))
    for _ in range(3):
        response = await post(client, upstream)
        assert json.loads(await response.aread()) == {"error": "x" * 1000}
        await response.aclose()
    assert upstream.connections == 1


async def test_an_endless_cancel_response() -> None:
    """The body of the response to a cancel request isn't needed, so it isn't read to its end."""

    class EndlessCancelUpstream(Upstream):
        def _background_answer(self, method: str, path: str, query: str) -> Script | None:
            return endless(200) if method == "POST" and path.endswith("/cancel") else None

    async with EndlessCancelUpstream() as upstream:
        providers = UpstreamProviders(upstream, Timeouts(), environment={"OPENAI_API_KEY": "sk-0123456789abcdef"})
        try:
            await providers.providers.stop(ResponseHandle("gpt-6-sol", RESPONSE))
            async with loop_not_blocked(), asyncio.timeout(10):
                await providers.providers.stop(ResponseHandle("gpt-6-sol", RESPONSE))
                await upstream.requests[1].disconnected.wait()
        finally:
            await providers.providers.aclose()
