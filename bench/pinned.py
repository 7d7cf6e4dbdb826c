"""Scenarios with pinned cores: what is measured has a core of its own, and the load another one.

Their figures are ratios of pairs that alternate in one run, so that a busy or a slow machine changes both sides.
`python -m bench.pinned --before FOLDER` compares this tree with another one, such as that of the commit before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop

from bench.client import Tally
from bench.harness import ROOT, Measurement, Upstream, live_turns, measure_period, program, redis, upstream
from bench.scenarios import FULL, SMOKE, Figures, Sizes
from tests.gateway_process import clean_environment, until_ready

PAIRS = 5
TURNS = 200
RATE = 50
LIMITS_MS = (10, 100)
"""The limits of the added latency, 99th percentile, up to which the turns of a core are counted."""
STEP = 50
"""The number of turns that are added at a time."""


@dataclass(frozen=True)
class Server:
    """A server that is measured: its name, its URL, and the id of its process."""

    name: str
    url: str
    pid: int


@contextmanager
def _pinned_load() -> Iterator[int]:
    """Pin this process, and those that it starts, to one core. Yield the core that is left for what is measured."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield max(cores)
    finally:
        os.sched_setaffinity(0, cores)


@asynccontextmanager
async def _relay(provider: Upstream, core: int) -> AsyncIterator[Server]:
    async with program("bench.peers.ideal_relay", environment={"OPENAI_BASE_URL": provider.url}) as (url, pid):
        yield _on_core(Server("relay", url, pid), core)


@asynccontextmanager
async def _gateway(
    provider: Upstream, core: int, *, store: str | None = None, tree: Path = ROOT, name: str = "turnwire"
) -> AsyncIterator[Server]:
    """Run the gateway of the source tree `tree` with the default settings."""
    with tempfile.TemporaryDirectory() as folder:
        keys = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "bench", "PYTHONPATH": str(tree)}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", "--port", "0"),
            *("--store", store or f"sqlite:///{folder}/turnwire.db"),
            env=clean_environment(keys),
            cwd=tree,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with until_ready(process, allow_kill=True) as running:
            yield _on_core(Server(name, running.url, process.pid), core)


def _on_core(server: Server, core: int) -> Server:
    """Pin all threads of the server to `core`, and so those that it starts later."""
    for thread in Path(f"/proc/{server.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
    return server


async def _alternate(
    servers: list[Server], provider: Upstream, sizes: Sizes, pairs: int = PAIRS, turns: int = TURNS
) -> Figures:
    """Return the figures of both servers under the same load, and the ratio of their tokens per CPU second.

    Each pair is one measurement of both. An earlier load, which isn't measured, loads what is imported late.
    """
    turns = min(turns, max(sizes.turns))
    measured: dict[str, list[Measurement]] = {server.name: [] for server in servers}
    for n in range(pairs + 1):
        for server in servers if n % 2 else servers[::-1]:
            async with live_turns(server.url, turns, 1, RATE) as (tally, _):
                await asyncio.sleep(0 if n else 2 * sizes.seconds)
                one = await measure_period(tally, [server.pid], provider, sizes.seconds if n else 0.1)
            if n:
                measured[server.name].append(one)
    costs = [[one.cpu_s / one.tokens for one in of_one] for of_one in measured.values()]
    ratios = [round(b / a, 3) for a, b in zip(*costs, strict=True)]
    figures: Figures = {
        name: {
            figure: round(median([one.summary()[figure] for one in of_one]), 3)
            for figure in ("tokens_per_cpu_s", "cpu", "tokens_per_frame", "late_p50_ms", "late_p99_ms")
        }
        for name, of_one in measured.items()
    }
    return {f"{turns} turns x {RATE}/s": {**figures, "ratio": round(median(ratios), 3), "ratios": ratios}}


async def relay(sizes: Sizes) -> Figures:
    """Tokens per CPU second of Turnwire, with SQLite and with Redis, divided by those of an ideal relay."""
    with _pinned_load() as core:
        async with upstream() as provider, _relay(provider, core) as ideal, redis() as url:
            async with _gateway(provider, core) as ours:
                sqlite = await _alternate([ours, ideal], provider, sizes)
            async with _gateway(provider, core, store=url) as ours:
                return {"sqlite": sqlite, "redis": await _alternate([ours, ideal], provider, sizes)}


async def turns_per_core(sizes: Sizes) -> Figures:
    """How many turns x 50/s one core carries while the added latency, p99, is at most 10 ms, and at most 100 ms."""
    with _pinned_load() as core:
        async with upstream() as provider, _gateway(provider, core) as ours:
            return await _capacity(ours, provider, sizes)


async def _capacity(server: Server, provider: Upstream, sizes: Sizes) -> Figures:
    """Add turns until the latency is above the last limit at two loads. Return the largest load within each limit."""
    tally = Tally()
    figures: Figures = {f"p99 <= {limit} ms": 0 for limit in LIMITS_MS}
    loads: Figures = {}
    step = min(STEP, max(sizes.turns))
    above = turns = 0
    async with AsyncExitStack() as running:
        await running.enter_async_context(
            live_turns(server.url, step, 1, RATE, settle_s=2 * sizes.seconds, tally=tally)
        )
        while above < 2 and turns < 1.5 * max(sizes.turns):
            if turns:
                await running.enter_async_context(live_turns(server.url, step, 1, RATE, tally=tally))
            turns += step
            one = (await measure_period(tally, [server.pid], provider, sizes.seconds)).summary()
            loads[str(turns)] = {name: one[name] for name in ("tokens_per_cpu_s", "cpu", "late_p50_ms", "late_p99_ms")}
            above += one["late_p99_ms"] > LIMITS_MS[-1]
            for limit in LIMITS_MS:
                if one["late_p99_ms"] <= limit:
                    figures[f"p99 <= {limit} ms"] = turns
    return {**figures, "loads": loads}


async def compare(before: Path, sizes: Sizes, pairs: int, turns: int, *, capacity: bool) -> Figures:
    """Compare the tree `before` with this one: their tokens per CPU second, or the turns that a core carries."""
    with _pinned_load() as core:
        async with (
            upstream() as provider,
            _gateway(provider, core, name="after") as after,
            _gateway(provider, core, tree=before, name="before") as earlier,
        ):
            if not capacity:
                return await _alternate([after, earlier], provider, sizes, pairs, turns)
            return {
                f"{n} {server.name}": await _capacity(server, provider, sizes)
                for n in range(pairs)
                for server in ((after, earlier) if n % 2 else (earlier, after))
            }


def main() -> None:
    """Compare two trees, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.pinned", description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="the folder of the source tree to compare with")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="how often both are measured")
    parser.add_argument("--turns", type=int, default=TURNS, help="how many turns stream 50 tokens per second each")
    parser.add_argument("--capacity", action="store_true", help="compare how many turns a core carries")
    parser.add_argument("--smoke", action="store_true", help="run with tiny sizes")
    options = parser.parse_args()
    sizes = SMOKE if options.smoke else FULL
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as starter:
        figures = starter.run(
            compare(options.before.resolve(), sizes, options.pairs, options.turns, capacity=options.capacity)
        )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
