"""Scenarios of speed, run several times for medians. Each starts its own gateway. `Sizes` says how large they are."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

from bench.client import Socket, Tally, close_sockets, open_sockets
from bench.harness import (
    FAST,
    Upstream,
    gateway,
    live_turns,
    measure_period,
    quantile,
    redis,
    start_fields,
    upstream,
)

Figures = dict[str, Any]
NS_PER_MS = 1e6


@dataclass(frozen=True)
class Sizes:
    """The sizes of all scenarios. `SMOKE` only shows that they work."""

    seconds: float
    turns: tuple[int, ...]
    samples: int
    idle_sockets: int
    live_turns: int
    ended_turns: int
    replay_tokens: int
    overload_turns: int


FULL = Sizes(4.0, (50, 200, 1000), 100, 10_000, 1000, 10_000, 5000, 1200)
SMOKE = Sizes(0.3, (10,), 3, 20, 10, 16, 200, 20)


async def throughput(sizes: Sizes) -> Figures:
    """Tokens per CPU second with SQLite: one turn and ten turns per socket, JSON and MessagePack."""
    figures: Figures = {}
    loads = [(turns, per_socket, "json") for turns in sizes.turns for per_socket in (1, 10)]
    async with upstream() as provider:
        for turns, per_socket, codec in (*loads, (min(200, max(sizes.turns)), 1, "msgpack")):
            rate = 50 if turns < 1000 else 10  # the same total as 200 turns x 50/s, which a core can handle
            async with (
                gateway(provider) as running,
                live_turns(running.url, turns, per_socket, rate, codec, settle_s=sizes.seconds) as (tally, _),
            ):
                measurement = await measure_period(tally, [running.process.pid], provider, sizes.seconds)
            figures[f"{turns} turns x {rate}/s, {per_socket} per socket, {codec}"] = measurement.summary()
    return figures


async def throughput_redis(sizes: Sizes) -> Figures:
    """Tokens per CPU second with Redis: one turn per socket, JSON."""
    figures: Figures = {}
    async with upstream() as provider, redis() as url:
        for turns in sizes.turns:
            rate = 50 if turns < 1000 else 10  # the same total as 200 turns x 50/s, which a core can handle
            async with (
                gateway(provider, store=url) as running,
                live_turns(running.url, turns, 1, rate, settle_s=sizes.seconds) as (tally, _),
            ):
                measurement = await measure_period(tally, [running.process.pid], provider, sizes.seconds)
            figures[f"{turns} turns x {rate}/s, 1 per socket, json"] = measurement.summary()
    return figures


async def latency(sizes: Sizes) -> Figures:
    """Added latency per token at 5,000 tokens/s: from the upstream's write to the client's read."""
    turns = min(100, max(sizes.turns))
    async with (
        upstream() as provider,
        gateway(provider) as running,
        live_turns(running.url, turns, 1, 50, settle_s=sizes.seconds) as (tally, _),
    ):
        return (await measure_period(tally, [running.process.pid], provider, sizes.seconds)).summary()


async def first_token(sizes: Sizes) -> Figures:
    """Time from `turn.start` to the first delta, with an upstream that answers at once: alone, and with live turns."""
    async with upstream() as provider, gateway(provider) as running:
        alone = await first_tokens(running.url, sizes.samples)
        turns = sizes.live_turns
        async with live_turns(running.url, turns, 10, 5, settle_s=sizes.seconds):
            loaded = await first_tokens(running.url, sizes.samples)
    return {"alone": spread(alone), f"under {turns} live turns x 5/s": spread(loaded)}


async def first_tokens(url: str, samples: int) -> list[float]:
    """Return the times from `turn.start` to the first delta in ms. The turns run one after another."""
    (socket,) = await open_sockets(url, 1, Tally())
    waited: list[float] = []
    for number in range(samples + 3):
        turn = f"f{number}-{random.getrandbits(32)}"
        first, ended = socket.first_token(turn), socket.ending(turn)
        began = time.monotonic_ns()
        socket.send({"type": "turn.start", **start_fields(turn, FAST, 2)})
        waited.append((await first - began) / NS_PER_MS)
        await ended
    await close_sockets([socket])
    return waited[3:]  # the first turns import the SDK and open the connection


def spread(values: list[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the maximum of values in ms."""
    return {
        "p50_ms": round(quantile(values, 0.5), 2),
        "p99_ms": round(quantile(values, 0.99), 2),
        "max_ms": round(max(values), 2),
    }


async def cancel(sizes: Sizes) -> Figures:
    """Time from `turn.cancel` to its answer, to the turn's ending, and to the close at the upstream.

    The cancel is sent to the owner, and then to another instance.
    """
    async with (
        upstream() as provider,
        redis() as url,
        gateway(provider, store=url) as owner,
        gateway(provider, store=url) as other,
    ):
        sockets = [*(await open_sockets(owner.url, 1, Tally())), *(await open_sockets(other.url, 1, Tally()))]
        figures = {
            "through the owner": await _cancels(provider, sockets[0], sockets[0], sizes.samples),
            "through another instance": await _cancels(provider, sockets[0], sockets[1], sizes.samples),
        }
        await close_sockets(sockets)
    return figures


async def _cancels(provider: Upstream, starter: Socket, stopper: Socket, samples: int) -> Figures:
    answered: list[float] = []
    ended_ms: list[float] = []
    asked: dict[str, int] = {}
    for number in range(samples):
        turn = f"c{number}-{random.getrandbits(32)}"
        first, ended = starter.first_token(turn), starter.ending(turn)
        await starter.ask("turn.start", **start_fields(turn, 50))
        await first
        asked[turn] = time.monotonic_ns()
        at, _ = await stopper.ask("turn.cancel", turn=turn)
        answered.append((at - asked[turn]) / NS_PER_MS)
        await ended
        ended_ms.append((time.monotonic_ns() - asked[turn]) / NS_PER_MS)
    closed = provider.stats()["closed"]
    upstream_ms = [(closed[turn] - at) / NS_PER_MS for turn, at in asked.items() if turn in closed]
    return {
        "answer": spread(answered),
        "ending at the starter": spread(ended_ms),
        "upstream closed": spread(upstream_ms),
        "upstreams closed": f"{len(upstream_ms)} of {samples}",
    }
