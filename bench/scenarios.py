"""What is measured: each scenario starts its own gateway and answers with figures. Sizes come from `Sizes`."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from bench.client import Socket, Tally, close_sockets, open_sockets
from bench.harness import (
    ENDLESS_TOKENS,
    Upstream,
    gateway,
    live_turns,
    own_memory,
    quantile,
    question,
    read,
    redis,
    upstream,
)
from bench.process import cpu_s

Figures = dict[str, Any]
NS_PER_MS = 1e6
FAST = 1000
"""Tokens per second of an answer whose pace is not what is measured."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything. The smoke size proves that it all runs."""

    seconds: float
    turns: tuple[int, ...]
    samples: int
    idle_sockets: int
    live_turns: int
    ended_turns: int
    replay_tokens: int


FULL = Sizes(8.0, (50, 200, 1000), 200, 8000, 1000, 10_000, 5000)
SMOKE = Sizes(1.0, (10,), 5, 20, 10, 40, 200)


async def throughput(sizes: Sizes) -> Figures:
    """Tokens per CPU second, embedded store: one turn per socket and ten, JSON and MessagePack."""
    figures: Figures = {}
    async with upstream() as provider:
        for turns in sizes.turns:
            rate = 50 if turns < 1000 else 20
            for per_socket, codec in ((1, "json"), (10, "json"), (1, "msgpack")):
                async with (
                    gateway(provider) as running,
                    live_turns(running.url, turns, per_socket, rate, codec) as (tally, _),
                ):
                    reading = await read(tally, [running.process.pid], provider, sizes.seconds)
                figures[f"{turns} turns x {rate}/s, {per_socket} per socket, {codec}"] = reading.summary()
    return figures


async def throughput_redis(sizes: Sizes) -> Figures:
    """The same with Redis as the store."""
    figures: Figures = {}
    async with upstream() as provider, redis() as url:
        for turns in sizes.turns:
            rate = 50 if turns < 1000 else 20
            async with (
                gateway(provider, store=url) as running,
                live_turns(running.url, turns, 1, rate) as (tally, _),
            ):
                reading = await read(tally, [running.process.pid], provider, sizes.seconds)
            figures[f"{turns} turns x {rate}/s, 1 per socket, json"] = reading.summary()
    return figures


async def latency(sizes: Sizes) -> Figures:
    """Added latency per token at 5,000 tokens/s: from the upstream's write to the client's read."""
    turns = min(100, max(sizes.turns))
    async with (
        upstream() as provider,
        gateway(provider) as running,
        live_turns(running.url, turns, 1, 50) as (tally, _),
    ):
        return (await read(tally, [running.process.pid], provider, sizes.seconds)).summary()


async def first_token(sizes: Sizes) -> Figures:
    """From `turn.start` to the first delta, with an upstream that answers at once: alone, and under live turns."""
    async with upstream() as provider, gateway(provider) as running:
        alone = await _first_tokens(running.url, sizes.samples)
        turns = sizes.live_turns
        async with live_turns(running.url, turns, 10, 5):
            loaded = await _first_tokens(running.url, sizes.samples)
    return {"alone": _spread(alone), f"under {turns} live turns x 5/s": _spread(loaded)}


async def _first_tokens(url: str, samples: int) -> list[float]:
    (socket,) = await open_sockets(url, 1, Tally())
    waited: list[float] = []
    for number in range(samples + 3):
        turn = f"f{number}-{random.getrandbits(32)}"
        first, ended = socket.first_token(turn), socket.ending(turn)
        began = time.monotonic_ns()
        socket.send({"type": "turn.start", **question(turn, FAST, 2)})
        waited.append((await first - began) / NS_PER_MS)
        await ended
    await close_sockets([socket])
    return waited[3:]  # the first ones import the SDK and open the connection


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "p50_ms": round(quantile(values, 0.5), 2),
        "p99_ms": round(quantile(values, 0.99), 2),
        "max_ms": round(max(values), 2),
    }


async def cancel(sizes: Sizes) -> Figures:
    """From `turn.cancel` to its answer, and to the upstream's end of the connection: here, and through another instance."""
    async with (
        upstream() as provider,
        redis() as url,
        gateway(provider, store=url) as owner,
        gateway(provider, store=url) as other,
    ):
        sockets = [*(await open_sockets(owner.url, 1, Tally())), *(await open_sockets(other.url, 1, Tally()))]
        figures = {
            "here": await _cancels(provider, sockets[0], sockets[0], sizes.samples),
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
        await starter.ask("turn.start", **question(turn, 50))
        await first
        asked[turn] = time.monotonic_ns()
        at, _ = await stopper.ask("turn.cancel", turn=turn)
        answered.append((at - asked[turn]) / NS_PER_MS)
        await ended
        ended_ms.append((time.monotonic_ns() - asked[turn]) / NS_PER_MS)
    closed = provider.stats()["closed"]
    upstream_ms = [(closed[turn] - at) / NS_PER_MS for turn, at in asked.items() if turn in closed]
    return {
        "answer": _spread(answered),
        "ending at the starter": _spread(ended_ms),
        "upstream closed": _spread(upstream_ms),
        "upstreams closed": f"{len(upstream_ms)} of {samples}",
    }


async def replay(sizes: Sizes) -> Figures:
    """Attaching from 0 to an ended turn of many tokens."""
    tokens = sizes.replay_tokens
    async with upstream() as provider, gateway(provider) as running:
        (first,) = await open_sockets(running.url, 1, Tally())
        ended = first.ending("long")
        await first.ask("turn.start", **question("long", FAST, tokens))
        await ended
        tally = Tally()
        sockets = await open_sockets(running.url, 20, tally)
        pid = running.process.pid
        cpu, took = cpu_s(pid), []
        for socket in sockets:
            again = socket.ending("long")
            began = time.monotonic_ns()
            await socket.ask("turn.attach", turn="long")
            await again
            took.append((time.monotonic_ns() - began) / NS_PER_MS)
        spent = (cpu_s(pid) - cpu) / len(sockets)
        await close_sockets([first, *sockets])
    return {
        **_spread(took),
        "tokens": tokens,
        "frames": tally.frames // len(sockets),
        "bytes": tally.bytes // len(sockets),
        "cpu_ms": round(spent * 1000, 2),
    }


async def idle_sockets(sizes: Sizes) -> Figures:
    """Memory per socket that is attached to nothing."""
    async with upstream() as provider, gateway(provider) as running:
        warm = await open_sockets(running.url, 20, Tally())
        before = own_memory(running.process.pid)
        sockets = await open_sockets(running.url, sizes.idle_sockets, Tally())
        await asyncio.sleep(1)
        after = own_memory(running.process.pid)
        await close_sockets([*warm, *sockets])
    return {"sockets": len(sockets), "kib_per_socket": round((after - before) / len(sockets) / 1024, 1)}


async def memory(sizes: Sizes) -> Figures:
    """Memory per live turn, and what is left of it after a burst has ended."""
    async with upstream() as provider, gateway(provider) as running:
        pid = running.process.pid
        async with live_turns(running.url, 20, 10, 10):
            pass
        idle = own_memory(pid)
        async with live_turns(running.url, sizes.live_turns, 10, 10):
            await asyncio.sleep(sizes.seconds)
            busy = own_memory(pid)
        await asyncio.sleep(2)
        after = own_memory(pid)
    return {
        "turns": sizes.live_turns,
        "kib_per_turn": round((busy - idle) / sizes.live_turns / 1024, 1),
        "mib_idle": round(idle / 2**20, 1),
        "mib_after": round(after / 2**20, 1),
    }


async def flat(sizes: Sizes) -> Figures:
    """CPU per short turn, before and after so many ended ones, in as many conversations."""
    async with upstream() as provider, gateway(provider) as running:
        pid = running.process.pid
        sockets = await open_sockets(running.url, 8, Tally())
        batch = max(sizes.samples, 16)
        await _short_turns(sockets, batch, pid)
        first = await _short_turns(sockets, batch * 4, pid)
        await _short_turns(sockets, sizes.ended_turns, pid)
        last = await _short_turns(sockets, batch * 4, pid)
        await close_sockets(sockets)
    return {
        "ended_turns": sizes.ended_turns,
        "cpu_ms_per_turn_before": round(first * 1000, 3),
        "cpu_ms_per_turn_after": round(last * 1000, 3),
        "ratio": round(last / max(first, 1e-6), 3),
    }


async def _short_turns(sockets: list[Socket], count: int, pid: int) -> float:
    """CPU seconds per turn of ten tokens, each in a conversation of its own."""
    before = cpu_s(pid)

    async def some(socket: Socket, mine: int) -> None:
        for _ in range(mine):
            turn = f"s{random.getrandbits(64):x}"
            ended = socket.ending(turn)
            socket.send({"type": "turn.start", **question(turn, FAST, 10)})
            await ended

    share = max(count // len(sockets), 1)
    await asyncio.gather(*(some(socket, share) for socket in sockets))
    return (cpu_s(pid) - before) / (share * len(sockets))


async def slow_client(sizes: Sizes) -> Figures:
    """What the others notice of one client that doesn't read and follows ten floods."""
    turns = min(100, max(sizes.turns))
    async with upstream() as provider, gateway(provider) as running:
        pid = running.process.pid
        async with live_turns(running.url, turns, 1, 50) as (tally, _):
            without = await read(tally, [pid], provider, sizes.seconds)
            (slow,) = await open_sockets(running.url, 1, Tally())
            for number in range(10):
                await slow.ask("turn.start", **question(f"flood{number}", FAST, ENDLESS_TOKENS))
            slow.transport.underlying_transport.pause_reading()
            beside = await read(tally, [pid], provider, sizes.seconds)
            slow.transport.underlying_transport.resume_reading()
            slow.send({"type": "turn.cancel", "mine": True})
            slow.transport.disconnect()
    return {"without": without.summary(), "beside": beside.summary()}


async def overload(sizes: Sizes) -> Figures:
    """Twice what a core carries, asked of it for a while, and what is left of that when it ends."""
    async with upstream() as provider, gateway(provider) as running:
        pid = running.process.pid
        turns = min(200, sizes.live_turns)
        async with live_turns(running.url, turns, 1, 25) as (tally, _):
            before = await read(tally, [pid], provider, sizes.seconds)
            async with live_turns(running.url, turns * 4, 10, 50) as (more, _):
                during = await read(more, [pid], provider, sizes.seconds)
            await asyncio.sleep(2)
            after = await read(tally, [pid], provider, sizes.seconds)
    return {"before": before.summary(), "during": during.summary(), "after": after.summary()}


Scenario = Callable[[Sizes], Coroutine[Any, Any, Figures]]
SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        throughput,
        throughput_redis,
        latency,
        first_token,
        cancel,
        replay,
        idle_sockets,
        memory,
        flat,
        slow_client,
        overload,
    )
}
