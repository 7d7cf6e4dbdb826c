"""Start the gateway, the upstream and Redis as separate processes, and measure them over a period."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.client import Socket, Tally, close_sockets, open_sockets
from bench.process import cpu_s
from tests.gateway_process import GatewayProcess, clean_environment, gateway_process
from tests.postgres_process import PostgresProcess, postgres_process
from tests.redis_process import RedisProcess

ROOT = Path(__file__).parent.parent
ENDLESS_TOKENS = 1_000_000
FAST = 1000
"""The tokens per second of an answer in scenarios that don't measure its rate."""
SETTLE_S = 1.0
ROUND_TIMEOUT_S = 60.0
START_S = 60.0


@dataclass(frozen=True)
class Upstream:
    """The paced provider. `url` is its base URL, `pid` its process id."""

    url: str
    pid: int

    def stats(self) -> dict[str, Any]:
        """Return the answer to `GET /stats`: see `bench/upstream.py`."""
        return self._get("/stats")

    def stop(self) -> None:
        """Break off all streams."""
        self._get("/stop")

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self.url.removesuffix("/v1") + path) as answer:
            stats: dict[str, Any] = json.load(answer)
        return stats


@dataclass(frozen=True)
class Measurement:
    """The measurements of a period. Latencies are in ms, sizes in bytes."""

    seconds: float
    tokens: int
    frames: int
    bytes: int
    cpu_s: float
    upstream_cpu_s: float
    late_ms: list[float]

    def summary(self) -> dict[str, float]:
        """Return the figures for the results."""
        return {
            "tokens_per_s": round(self.tokens / self.seconds),
            "tokens_per_cpu_s": round(self.tokens / max(self.cpu_s, 0.01)),
            "cpu": round(self.cpu_s / self.seconds, 3),
            "cpu_per_upstream_cpu": round(self.cpu_s / max(self.upstream_cpu_s, 0.01), 2),
            "tokens_per_frame": round(self.tokens / max(self.frames, 1), 2),
            "bytes_per_token": round(self.bytes / max(self.tokens, 1), 1),
            "late_p50_ms": round(quantile(self.late_ms, 0.5), 3),
            "late_p99_ms": round(quantile(self.late_ms, 0.99), 3),
        }


def quantile(values: list[float], q: float) -> float:
    """Return the quantile `q` (0 to 1) of the values; 0 without values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * q), len(ordered) - 1)]


@asynccontextmanager
async def program(
    module: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 30,
    leave_s: float = 0,
) -> AsyncIterator[tuple[str, int]]:
    """Run `python -m module` and yield the first line it prints, and its process id.

    At the end, close its standard input, and kill it if it still runs after `leave_s` seconds. Raise `RuntimeError` if it
    exits without printing a line, and `TimeoutError` if it prints none within `timeout_s` seconds.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        cwd=ROOT,
        env=clean_environment(environment or {}),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(timeout_s):
            line = (await process.stdout.readline()).decode().strip()
        if not line:
            raise RuntimeError(f"{module} did not start. Run python -m {module} to see the error.")
        yield line, process.pid
    finally:
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(leave_s):
                await process.wait()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    """Run a paced provider, and yield it."""
    async with program("bench.upstream") as (url, pid):
        yield Upstream(url, pid)


@asynccontextmanager
async def gateway(
    provider: Upstream, *arguments: str, store: str | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[GatewayProcess]:
    """Run a gateway with the default settings in front of `provider`, and yield it."""
    keys = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "bench", **(environment or {})}
    with tempfile.TemporaryDirectory() as folder:
        async with gateway_process(Path(folder), keys, *arguments, store=store, allow_kill=True, fresh=True) as running:
            yield running


@asynccontextmanager
async def redis() -> AsyncIterator[str]:
    """Run a Redis for this run only, without an append-only file, and yield its URL."""
    async with redis_process() as server:
        yield server.url


@asynccontextmanager
async def redis_process() -> AsyncIterator[RedisProcess]:
    """Run a Redis as `redis` does, and yield the process."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisProcess(Path(folder) / "redis")
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def postgres() -> Iterator[tuple[str, PostgresProcess]]:
    """Run a PostgreSQL for this run only, and yield the URL of a database and the process.

    It works as in production, except that it doesn't wait for the disk.
    """
    settings = {"full_page_writes": "on", "shared_buffers": "256MB", "autovacuum": "on"}
    with postgres_process(settings=settings) as server:
        yield server.url(server.create_database()), server


def start_fields(turn: str, rate: int, tokens: int = ENDLESS_TOKENS) -> dict[str, Any]:
    """Return the fields of a `turn.start` with a paced answer. The input is the turn's id."""
    return {"turn": turn, "model": f"openai/paced-{rate}-{tokens}", "input": turn}


@asynccontextmanager
async def live_turns(
    url: str,
    turns: int,
    per_socket: int,
    rate: int,
    codec: str = "json",
    *,
    settle_s: float = SETTLE_S,
    tally: Tally | None = None,
) -> AsyncIterator[tuple[Tally, list[Socket]]]:
    """Run `turns` turns that stream during the block. With `tally`, they are counted beside those that it has already.

    The block begins `settle_s` seconds after each turn has sent three tokens on average. A gateway loads SDKs in its first
    seconds. With a `settle_s` of 4, this isn't measured.
    """
    tally = tally or Tally()
    first = tally.tokens
    sockets = await open_sockets(url, turns // per_socket, tally, codec)
    run = f"{random.getrandbits(48):x}"
    asked = 0
    for socket in sockets:
        await asyncio.gather(
            *(socket.ask("turn.start", **start_fields(f"{run}-{asked + n}", rate)) for n in range(per_socket))
        )
        asked += per_socket
    async with asyncio.timeout(START_S):
        while tally.tokens < first + 3 * turns:  # noqa: ASYNC110 - the first ones import the SDK
            await asyncio.sleep(0.1)
    await asyncio.sleep(settle_s)
    try:
        yield tally, sockets
    finally:
        # Wait for the cancel, because a gateway exits only after its turns have ended. All sockets belong to one user.
        await sockets[0].ask("turn.cancel", mine=True)
        await close_sockets(sockets)


async def measure_period(tally: Tally, pids: list[int], provider: Upstream, seconds: float) -> Measurement:
    """Measure for `seconds`. `pids` are the processes of the gateway."""
    tally.late_ns = type(tally.late_ns)("q")
    tally.keep_latency = True
    began = time.monotonic()
    before = (tally.tokens, tally.frames, tally.bytes, sum(map(cpu_s, pids)), cpu_s(provider.pid))
    await asyncio.sleep(seconds)
    after = (tally.tokens, tally.frames, tally.bytes, sum(map(cpu_s, pids)), cpu_s(provider.pid))
    tally.keep_latency = False
    tokens, frames, size, cpu, provider_cpu = (b - a for a, b in zip(before, after, strict=True))
    late = [late_ns / 1e6 for late_ns in tally.late_ns]
    return Measurement(time.monotonic() - began, int(tokens), int(frames), int(size), cpu, provider_cpu, late)


def machine() -> dict[str, Any]:
    """Return a description of this machine."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown",
    )
    return {"cpu": model, "cores": os.cpu_count(), "python": sys.version.split()[0], "kernel": os.uname().release}
