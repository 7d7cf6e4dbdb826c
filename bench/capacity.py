"""Scenarios of replay, memory, start, workers, overload, a slow client, the cost for Redis, and costs that must not grow.

Each starts its own gateways. `Sizes` says how large the scenarios are.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import redis.asyncio as redis_client

from bench.client import Socket, Tally, close_sockets, open_sockets
from bench.harness import ENDLESS_TOKENS, FAST, gateway, live_turns, measure_period, redis, start_fields, upstream
from bench.process import cpu_s, memory_bytes
from bench.scenarios import NS_PER_MS, Figures, Sizes, spread


async def replay(sizes: Sizes) -> Figures:
    """Time and CPU to attach from 0 to an ended turn of many tokens."""
    tokens = sizes.replay_tokens
    async with upstream() as provider, gateway(provider) as running:
        (first,) = await open_sockets(running.url, 1, Tally())
        ended = first.ending("long")
        await first.ask("turn.start", **start_fields("long", FAST, tokens))
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
        **spread(took),
        "tokens": tokens,
        "frames": tally.frames // len(sockets),
        "bytes": tally.bytes // len(sockets),
        "cpu_ms": round(spent * 1000, 2),
    }


async def idle_sockets(sizes: Sizes) -> Figures:
    """Memory per socket without attachments."""
    async with upstream() as provider, gateway(provider) as running:
        warm = await open_sockets(running.url, 20, Tally())
        # The gateway loads SDKs meanwhile, which would be measured as memory of the sockets.
        await asyncio.sleep(2 * sizes.seconds)
        before = memory_bytes(running.process.pid)
        sockets = await open_sockets(running.url, sizes.idle_sockets, Tally())
        await asyncio.sleep(1)
        after = memory_bytes(running.process.pid)
        await close_sockets([*warm, *sockets])
    return {"sockets": len(sockets), "kib_per_socket": round((after - before) / len(sockets) / 1024, 1)}


async def memory(sizes: Sizes) -> Figures:
    """Memory per live turn in the first of three bursts; memory before the bursts, and after each, once its turns
    expired.

    The process can't return freed memory that lies between live objects, and uses it for the next burst. So the first burst
    sets the level.
    """
    kept_s = 3
    async with upstream() as provider, gateway(provider, environment={"TURN_LOG_TTL": str(kept_s)}) as running:
        pid = running.process.pid
        async with live_turns(running.url, 20, 10, 10, settle_s=2 * sizes.seconds):
            pass
        levels = [memory_bytes(pid)]
        busy: list[int] = []
        for _ in range(3):
            async with live_turns(running.url, sizes.live_turns, 10, 10):
                await asyncio.sleep(sizes.seconds)
                busy.append(memory_bytes(pid))
            await asyncio.sleep(kept_s + 1)
            async with live_turns(running.url, 20, 10, 10):
                pass  # expired turns are removed when another turn ends
            levels.append(memory_bytes(pid))
    return {
        "turns": sizes.live_turns,
        "kib_per_turn": round((busy[0] - levels[0]) / sizes.live_turns / 1024, 1),
        "mib_before_and_after_each": [round(level / 2**20, 1) for level in levels],
    }


async def flat(sizes: Sizes) -> Figures:
    """CPU per short turn: before and after many ended turns in as many conversations, and with many idle sockets.

    The CPU of the idle sockets themselves, for heartbeats, is subtracted.
    """
    async with upstream() as provider, gateway(provider) as running:
        pid = running.process.pid
        sockets = await open_sockets(running.url, 8, Tally())
        batch = max(sizes.samples, 16)
        await _short_turns(sockets, batch * 4, pid)
        # The gateway loads SDKs meanwhile, which would be measured as cost of the turns.
        await asyncio.sleep(2 * sizes.seconds)
        first = await _short_turns(sockets, batch * 8, pid)
        await _short_turns(sockets, sizes.ended_turns, pid)
        later = await _short_turns(sockets, batch * 8, pid)
        idle = await open_sockets(running.url, sizes.idle_sockets, Tally())
        await asyncio.sleep(1)
        before = cpu_s(pid)
        await asyncio.sleep(2 * sizes.seconds)
        resting = (cpu_s(pid) - before) / (2 * sizes.seconds)
        beside = await _short_turns(sockets, batch * 8, pid, resting)
        await close_sockets([*sockets, *idle])
    return {
        "ended_turns": sizes.ended_turns,
        "idle_sockets": len(idle),
        "cpu_ms_per_turn_before": round(first * 1000, 3),
        "cpu_ms_per_turn_after": round(later * 1000, 3),
        "cpu_ms_per_turn_beside": round(beside * 1000, 3),
        "cpu_of_idle_sockets": round(resting, 4),
        "ratio": round(later / max(first, 1e-6), 3),
        "ratio_beside": round(beside / max(first, 1e-6), 3),
    }


async def _short_turns(sockets: list[Socket], count: int, pid: int, resting: float = 0) -> float:
    """Return the CPU seconds per turn of ten tokens, each in its own conversation.

    `resting` is the CPU in seconds per second that the process uses without these turns.
    """
    before, began = cpu_s(pid), time.monotonic()

    async def some(socket: Socket, mine: int) -> None:
        for _ in range(mine):
            turn = f"s{random.getrandbits(64):x}"
            ended = socket.ending(turn)
            socket.send({"type": "turn.start", **start_fields(turn, FAST, 10)})
            await ended

    share = max(count // len(sockets), 1)
    await asyncio.gather(*(some(socket, share) for socket in sockets))
    return (cpu_s(pid) - before - resting * (time.monotonic() - began)) / (share * len(sockets))


async def slow_client(sizes: Sizes) -> Figures:
    """Effect on other clients of one client that is attached to ten fast turns and doesn't read."""
    turns = min(100, max(sizes.turns))
    async with upstream() as provider, gateway(provider) as running:
        pid = running.process.pid
        async with live_turns(running.url, turns, 1, 50, settle_s=sizes.seconds) as (tally, _):
            without = await measure_period(tally, [pid], provider, sizes.seconds)
            (slow,) = await open_sockets(running.url, 1, Tally())
            for number in range(10):
                await slow.ask("turn.start", **start_fields(f"flood{number}", FAST, ENDLESS_TOKENS))
            slow.transport.underlying_transport.pause_reading()
            beside = await measure_period(tally, [pid], provider, sizes.seconds)
            slow.transport.underlying_transport.resume_reading()
            slow.send({"type": "turn.cancel", "mine": True})
            slow.transport.disconnect()
    return {"without": without.summary(), "beside": beside.summary()}


async def overload(sizes: Sizes) -> Figures:
    """About twice the load of a core, added to turns that run already. Every seq and token of the added turns is checked."""
    async with upstream() as provider, gateway(provider) as running:
        pid = running.process.pid
        async with live_turns(running.url, min(200, sizes.live_turns), 1, 25, settle_s=sizes.seconds) as (tally, _):
            before = await measure_period(tally, [pid], provider, sizes.seconds)
            flood, more = Tally(), sizes.overload_turns
            flood.checked_turns = {}
            sockets = await open_sockets(running.url, more // 10, flood)
            tokens = int(50 * (sizes.seconds + 4))
            asked = [(socket, f"o{n}-{k}") for n, socket in enumerate(sockets) for k in range(10)]
            endings = [socket.ending(turn) for socket, turn in asked]
            for socket, turn in asked:
                socket.send({"type": "turn.start", **start_fields(turn, 50, tokens)})
            await asyncio.sleep(3)
            during = await measure_period(flood, [pid], provider, sizes.seconds)
            async with asyncio.timeout(60):
                await asyncio.gather(*endings)
            await asyncio.sleep(2)
            after = await measure_period(tally, [pid], provider, sizes.seconds)
            whole = sum(not turn.broken and turn.tokens == tokens for turn in flood.checked_turns.values())
            await close_sockets(sockets)
    return {
        "before": before.summary(),
        "during": during.summary(),
        "after": after.summary(),
        "whole answers": f"{whole} of {len(asked)}",
    }


async def start(sizes: Sizes) -> Figures:
    """Time from the command to the ready line."""
    took: list[float] = []
    async with upstream() as provider:
        for _ in range(max(sizes.samples // 20, 1)):
            began = time.monotonic()
            async with gateway(provider):
                took.append((time.monotonic() - began) * 1000)
    return spread(took)


async def workers(sizes: Sizes) -> Figures:
    """Tokens per CPU second of the busiest worker: in a gateway with one worker, and in one with two workers and twice the load.

    Both gateways run at the same time, each on its own Redis, so that everything else on the cores, the load generator
    included, slows both.
    """
    turns, rate = min(60, max(sizes.turns)), 25
    figures: Figures = {}
    async with upstream() as provider, redis() as one_url, redis() as two_url:
        async with gateway(provider, store=one_url) as one, gateway(provider, "--workers", "2", store=two_url) as two:
            groups = [[one.process.pid], _children(two.process.pid)]
            async with (
                live_turns(one.url, turns, 1, rate) as (one_tally, _),
                live_turns(two.url, 2 * turns, 1, rate, settle_s=sizes.seconds) as (two_tally, _),
            ):
                tallies = [one_tally, two_tally]
                before = [[cpu_s(pid) for pid in pids] for pids in groups]
                tokens = [tally.tokens for tally in tallies]
                await asyncio.sleep(2 * sizes.seconds)
                used = [
                    [cpu_s(pid) - spent for pid, spent in zip(pids, spents, strict=True)]
                    for pids, spents in zip(groups, before, strict=True)
                ]
                tokens = [tally.tokens - had for tally, had in zip(tallies, tokens, strict=True)]
    busiest, evenly = [], []
    for spent, count in zip(used, tokens, strict=True):
        busiest.append(count / max(*spent, 0.01))
        evenly.append(count * len(spent) / max(sum(spent), 0.01))
        figures[f"{len(spent)} with {len(spent) * turns} turns x {rate}/s"] = {
            "cpu_of_each": [round(cpu / (2 * sizes.seconds), 3) for cpu in spent],
            "tokens_per_busiest_cpu_s": round(busiest[-1]),
        }
    # The kernel distributes sockets at random, so a small number of them is distributed unevenly.
    figures["scaling_by_busiest"] = round(busiest[1] / max(busiest[0], 1), 2)
    figures["scaling_if_dealt_evenly"] = round(evenly[1] / max(evenly[0], 1), 2)
    return figures


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def redis_costs(sizes: Sizes) -> Figures:
    """Cost of a live token and of a whole turn for Redis: CPU, commands and network traffic; of a turn also memory."""
    turns = min(200, max(sizes.turns))
    async with upstream() as provider, redis() as url, redis_client.from_url(url) as link:
        async with gateway(provider, store=url) as running:
            async with live_turns(running.url, turns, 1, 50, settle_s=sizes.seconds) as (tally, _):
                before, tokens = await _redis_info(link), tally.tokens
                await asyncio.sleep(sizes.seconds)
                live, tokens = _difference(before, await _redis_info(link)), tally.tokens - tokens
            await asyncio.sleep(1)
            sockets = await open_sockets(running.url, 8, Tally())
            count = sizes.samples * 8
            before = await _redis_info(link)
            await _short_turns(sockets, count, running.process.pid)
            whole = _difference(before, await _redis_info(link))
            await close_sockets(sockets)
    return {
        "per_token": {name: round(value / max(tokens, 1), 3) for name, value in live.items() if name != "memory_bytes"},
        "per_turn_of_ten_tokens": {name: round(value / count, 1) for name, value in whole.items()},
    }


async def _redis_info(link: redis_client.Redis) -> dict[str, float]:
    info: dict[str, Any] = await link.info()
    return {
        "cpu_us": (info["used_cpu_user"] + info["used_cpu_sys"]) * 1e6,
        "commands": info["total_commands_processed"],
        "bytes_in": info["total_net_input_bytes"],
        "bytes_out": info["total_net_output_bytes"],
        "memory_bytes": info["used_memory"],
    }


def _difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before[name] for name in before}
