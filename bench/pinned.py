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
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import uvloop

from bench.capacity_search import FIRST, LIMITS_MS, capacity, is_within
from bench.client import Tally
from bench.harness import ROOT, Measurement, Upstream, live_turns, measure_period, program, redis, upstream
from bench.peer_clients import connect_http, connect_socket
from bench.peer_scenarios import Connect, litellm_proxy, streaming
from bench.peers.litellm_proxy import installed_version
from bench.process import cpu_s
from bench.scenarios import FULL, SMOKE, Figures, Sizes
from tests.gateway_process import clean_environment, until_ready

PAIRS = 5
TURNS = 200
RATE = 50
LEAVE_S = 1.0
"""How long a server has to close the streams of clients that left."""
IDLE_S, IDLE_CPU, IDLE_TIMEOUT_S = 0.5, 0.1, 60.0
"""A server is at rest when it needs less than this part of the core for this time. One that was overloaded takes seconds."""
Load = Callable[[str, int, float], AbstractAsyncContextManager[Tally]]
"""Runs a number of turns on the server with a URL. Its block begins the given seconds after all turns have begun."""


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
async def _peer(name: str, provider: Upstream, core: int) -> AsyncIterator[Server]:
    """Run a program of `bench/peers`."""
    async with program(f"bench.peers.{name}", environment={"OPENAI_BASE_URL": provider.url}) as (url, pid):
        yield _on_core(Server(name, url, pid), core)


@asynccontextmanager
async def _litellm(provider: Upstream, core: int) -> AsyncIterator[Server]:
    async with litellm_proxy(provider, RATE) as (url, pid):
        yield _on_core(Server("litellm", url, pid), core)


@asynccontextmanager
async def _gateway(
    provider: Upstream, core: int, *, store: str | None = None, tree: Path = ROOT, name: str = "turnwire"
) -> AsyncIterator[Server]:
    """Run the gateway of the source tree `tree`. It stops the turns of a lost HTTP client soon; else it has the defaults."""
    with tempfile.TemporaryDirectory() as folder:
        keys = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "bench", "PYTHONPATH": str(tree)}
        keys["TURNWIRE_DISCONNECT_GRACE_S"] = "0.1"
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
        async with upstream() as provider, _peer("ideal_relay", provider, core) as ideal, redis() as url:
            async with _gateway(provider, core) as ours:
                sqlite = await _alternate([ours, ideal], provider, sizes)
            async with _gateway(provider, core, store=url) as ours:
                return {"sqlite": sqlite, "redis": await _alternate([ours, ideal], provider, sizes)}


async def turns_per_core(sizes: Sizes) -> Figures:
    """How many turns x 50/s one core carries while the added latency, p99, is at most 10 ms, and at most 100 ms.

    Turnwire and its peers, with a WebSocket, and with server-sent events in OpenAI's Chat Completions.
    """
    figures: Figures = {}
    with _pinned_load() as core:
        async with upstream() as provider:
            ways: dict[str, tuple[AbstractAsyncContextManager[Server], Load]] = {
                "litellm": (_litellm(provider, core), partial(_streams, connect_http, "")),
                "turnwire_chat": (_gateway(provider, core), partial(_streams, connect_http, "openai/")),
                "fastapi": (_peer("fastapi_gateway", provider, core), partial(_streams, connect_socket, "")),
                "turnwire": (_gateway(provider, core), _turns),
            }
            version = installed_version()
            if version is None:
                del ways["litellm"]
            for name, (starting, load) in ways.items():
                async with starting as server:
                    figures[name] = await _capacity(server, load, provider, sizes)
    return {**figures, "litellm": {"version": version, **figures["litellm"]} if version else {"installed": False}}


@asynccontextmanager
async def _turns(url: str, turns: int, settle_s: float) -> AsyncIterator[Tally]:
    async with live_turns(url, turns, 1, RATE, settle_s=settle_s) as (tally, _):
        yield tally


@asynccontextmanager
async def _streams(connect: Connect, prefix: str, url: str, turns: int, settle_s: float) -> AsyncIterator[Tally]:
    async with streaming([await connect(url) for _ in range(turns)], RATE, prefix, settle_s) as tally:
        yield tally


async def _capacity(server: Server, load: Load, provider: Upstream, sizes: Sizes) -> Figures:
    """Return the turns that the server carries within each limit.

    A load above the first limit is measured once more, and the better period counts: a pause of the machine isn't the
    server's. An earlier load, which isn't measured, loads what is imported late.
    """

    async def period(tally: Tally, turns: int) -> Figures:
        one = (await measure_period(tally, [server.pid], provider, sizes.seconds / 2)).summary()
        figures = {name: one[name] for name in ("tokens_per_cpu_s", "cpu", "late_p50_ms", "late_p99_ms")}
        return {**figures, "delivered": round(one["tokens_per_s"] / (turns * RATE), 3)}

    async def measure(turns: int) -> Figures:
        async with load(server.url, turns, sizes.seconds / 4) as tally:
            figures = await period(tally, turns)
            if not is_within(figures, LIMITS_MS[0]):
                again = await period(tally, turns)
                figures = min(figures, again, key=_lateness)
        await _until_idle(server, provider)
        return figures

    async with load(server.url, FIRST, 2 * sizes.seconds):
        pass
    await _until_idle(server, provider)
    return await capacity(measure, round(1.5 * max(sizes.turns)))


def _lateness(figures: Figures) -> tuple[bool, float]:
    return not is_within(figures, LIMITS_MS[-1]), figures["late_p99_ms"]


async def _until_idle(server: Server, provider: Upstream) -> None:
    """Wait until the server is at rest. An overloaded peer may not notice that a client left: its streams are broken off."""
    await asyncio.sleep(LEAVE_S)
    provider.stop()
    async with asyncio.timeout(IDLE_TIMEOUT_S):
        before = cpu_s(server.pid)
        while await asyncio.sleep(IDLE_S, True):
            now = cpu_s(server.pid)
            if now - before < IDLE_CPU * IDLE_S:
                return
            before = now


async def compare(before: Path, sizes: Sizes, pairs: int, turns: int, *, search: bool) -> Figures:
    """Compare the tree `before` with this one: their tokens per CPU second, or the turns that a core carries."""
    with _pinned_load() as core:
        async with (
            upstream() as provider,
            _gateway(provider, core, name="after") as after,
            _gateway(provider, core, tree=before, name="before") as earlier,
        ):
            if not search:
                return await _alternate([after, earlier], provider, sizes, pairs, turns)
            return {
                f"{n} {server.name}": await _capacity(server, _turns, provider, sizes)
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
            compare(options.before.resolve(), sizes, options.pairs, options.turns, search=options.capacity)
        )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
