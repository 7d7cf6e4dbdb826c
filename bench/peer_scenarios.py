"""The same load on peers and on Turnwire in one run: a plain FastAPI gateway, and LiteLLM's proxy if installed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

from bench.client import Tally
from bench.harness import (
    ENDLESS_TOKENS,
    START_S,
    Measurement,
    Upstream,
    gateway,
    live_turns,
    measure_period,
    program,
    upstream,
)
from bench.peer_clients import Peer, connect_http, connect_own_http, connect_socket
from bench.peers.litellm_proxy import COMMAND as LITELLM
from bench.scenarios import NS_PER_MS, Figures, Sizes, first_tokens, spread

SHORT = "paced-1000-2"
ROUNDS = 3
Connect = Callable[[str], Awaitable[Peer]]


async def fastapi(sizes: Sizes) -> Figures:
    """A WebSocket gateway with FastAPI and the openai SDK, and Turnwire at the same load."""
    turns, rate = min(50, max(sizes.turns)), 50
    async with upstream() as provider:
        async with program("bench.peers.fastapi_gateway", environment={"OPENAI_BASE_URL": provider.url}) as (url, pid):
            theirs = await _load(connect_socket, url, pid, provider, turns, rate, sizes)
        return {f"{turns} turns x {rate}/s": {"fastapi": theirs, "turnwire": await _ours(provider, turns, rate, sizes)}}


async def chat_completions(sizes: Sizes) -> Figures:
    """Chat Completions beside our own server-sent events: the CPU of a token in one, per that in the other (`ratio`).

    Each is streamed by a gateway of its own at the same time, so that both have the same share of the machine. Then the
    gateways change places.
    """
    turns, rate = min(50, max(sizes.turns)), 50
    connects = (connect_own_http, connect_http)
    costs: tuple[list[float], list[float]] = ([], [])
    environment = {"TURNWIRE_DISCONNECT_GRACE_S": "0.1"}
    async with (
        upstream() as provider,
        gateway(provider, environment=environment) as one,
        gateway(provider, environment=environment) as two,
    ):
        for n in range(2 * ROUNDS + 2):
            gateways = (one, two) if n % 2 else (two, one)
            measured = await asyncio.gather(
                *[
                    _streams(
                        [await connect(running.url) for _ in range(turns)],
                        running.process.pid,
                        provider,
                        rate,
                        sizes,
                        "openai/",
                    )
                    for connect, running in zip(connects, gateways, strict=True)
                ]
            )
            for found, measurement in zip(costs, measured, strict=True):
                found.append(measurement.cpu_s / max(measurement.tokens, 1) * 1e6)
            await asyncio.sleep(1)  # until the turns are cancelled
    own, theirs = (found[2:] for found in costs)  # the first rounds load what is imported late
    ratios = [round(b / a, 3) for a, b in zip(own, theirs, strict=True)]
    figures = {"own_cpu_us_per_token": round(median(own), 2), "chat_cpu_us_per_token": round(median(theirs), 2)}
    return {f"{turns} turns x {rate}/s": {**figures, "ratio": round(median(ratios), 3), "ratios": ratios}}


async def litellm(sizes: Sizes) -> Figures:
    """LiteLLM's proxy (one worker), and Turnwire at the same load, both with Chat Completions on both sides.

    `make bench-peers` installs the proxy.
    """
    turns, rate = min(20, max(sizes.turns)), 25
    if not LITELLM.exists():
        return {"installed": False}
    async with upstream() as provider:
        async with litellm_proxy(provider, rate) as (url, pid):
            theirs = await _load(connect_http, url, pid, provider, turns, rate, sizes)
        async with gateway(provider) as running:
            pid = running.process.pid
            ours = await _load(connect_http, running.url, pid, provider, turns, rate, sizes, "openai/")
        return {f"{turns} turns x {rate}/s": {"litellm": theirs, "turnwire": ours}}


@asynccontextmanager
async def litellm_proxy(provider: Upstream, rate: int) -> AsyncIterator[tuple[str, int]]:
    """Run the proxy with models for `rate`, and yield its URL and its process id."""
    models = (SHORT, f"paced-{rate}-{ENDLESS_TOKENS}")
    environment = {"OPENAI_BASE_URL": provider.url}
    async with program("bench.peers.litellm_proxy", *models, environment=environment, timeout_s=100, leave_s=5) as (
        line,
        _,
    ):
        url, pid = line.split()
        yield url, int(pid)


async def _load(
    connect: Connect, url: str, pid: int, provider: Upstream, turns: int, rate: int, sizes: Sizes, prefix: str = ""
) -> dict[str, Any]:
    """Measure first tokens alone, then `turns` streams, each on its own connection.

    `prefix` precedes the name of a model.
    """
    waited: list[float] = []
    for _ in range(sizes.samples + 3):
        peer = await connect(url)
        began = time.monotonic_ns()
        waited.append((await peer.ask(prefix + SHORT, Tally()).first - began) / NS_PER_MS)
        peer.close()
    peers = [await connect(url) for _ in range(turns)]
    measurement = await _streams(peers, pid, provider, rate, sizes, prefix)
    return {**measurement.summary(), "first_token": spread(waited[3:])}


async def _streams(
    peers: list[Peer], pid: int, provider: Upstream, rate: int, sizes: Sizes, prefix: str
) -> Measurement:
    """Measure one stream on each connection, and close the connections."""
    async with streaming(peers, rate, prefix, sizes.seconds) as tally:
        return await measure_period(tally, [pid], provider, sizes.seconds)


@asynccontextmanager
async def streaming(peers: list[Peer], rate: int, prefix: str, settle_s: float) -> AsyncIterator[Tally]:
    """Run one stream on each connection during the block, which begins `settle_s` seconds after all have begun."""
    tally = Tally()
    try:
        answers = [peer.ask(f"{prefix}paced-{rate}-{ENDLESS_TOKENS}", tally) for peer in peers]
        async with asyncio.timeout(START_S):
            await asyncio.gather(*(answer.first for answer in answers))
        await asyncio.sleep(settle_s)
        yield tally
    finally:
        for peer in peers:
            peer.close()


async def _ours(provider: Upstream, turns: int, rate: int, sizes: Sizes) -> dict[str, Any]:
    async with gateway(provider) as running:
        waited = await first_tokens(running.url, sizes.samples)
        async with live_turns(running.url, turns, 1, rate, settle_s=sizes.seconds) as (tally, _):
            measurement = await measure_period(tally, [running.process.pid], provider, sizes.seconds)
    return {**measurement.summary(), "first_token": spread(waited)}
