"""The scenario of the archive: what it costs the gateway, Redis and PostgreSQL, and how much later a turn's ending is.

Three gateways, each on its own Redis, are compared. Long turns run on two of them at the same time. Short turns run on each
of the three in rotation, several times. So everything else on the machine slows all of them.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import jwt

from bench.client import Socket, Tally, close_sockets, open_sockets
from bench.harness import (
    FAST,
    ROUND_TIMEOUT_S,
    Upstream,
    gateway,
    postgres,
    redis_process,
    start_fields,
    upstream,
)
from bench.process import cpu_s, tree_cpu_s
from bench.scenarios import NS_PER_MS, Figures, Sizes, spread
from tests.postgres_process import PostgresProcess

RATE, TOKENS = 50, 400
SHORT_TOKENS = 20
WITHOUT, WITH, SYNC = "without an archive", "with an archive", "with TURNWIRE_ARCHIVE_SYNC=1"
SECRET = secrets.token_hex(32)
SETTLE_S = 1.5
"""The time in which the changes of the last turns reach the archive."""
PERIODS = 5
PAUSE_S = 0.01


@dataclass
class Side:
    """A gateway under load: its sockets, each of its own user, and the number of turns that have ended."""

    pid: int
    redis_pid: int
    sockets: list[Socket]
    tally: Tally
    ended: int = 0
    stops: bool = False

    async def run_turns(self, socket: Socket) -> None:
        """Run one turn after the other, each in its own conversation. The first begins at a random time."""
        await asyncio.sleep(random.uniform(0, TOKENS / RATE))
        while not self.stops:
            await self.run_turn(socket, RATE, TOKENS)

    async def run_turn(self, socket: Socket, rate: int, tokens: int) -> int:
        """Run a turn in a conversation of its own. Return the time of its ending (monotonic ns)."""
        turn = f"a{random.getrandbits(64):x}"
        ended = socket.ending(turn)
        await socket.ask("turn.start", **start_fields(turn, rate, tokens))
        await ended
        self.ended += 1
        return time.monotonic_ns()

    async def run_short_turns(self, count: int) -> None:
        """Run `count` short turns, as many at the same time as there are sockets."""
        numbers = iter(range(count))

        async def run(socket: Socket) -> None:
            for _ in numbers:
                await self.run_turn(socket, FAST, SHORT_TOKENS)

        await until_ended([asyncio.ensure_future(run(socket)) for socket in self.sockets], [self], ROUND_TIMEOUT_S)


async def until_ended(tasks: Sequence[asyncio.Future[Any]], sides: Sequence[Side], timeout_s: float) -> None:
    """Wait for the tasks, which run turns. Raises `TimeoutError` with the turns that haven't ended by then."""
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*tasks)
    except TimeoutError:
        unended = [turn for side in sides for socket in side.sockets for turn in socket.unended]
        raise TimeoutError(f"{len(unended)} turns haven't ended: {', '.join(unended[:9])}") from None


def _environment(url: str | None, *, sync: bool = False) -> dict[str, str]:
    auth = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET, "TURNWIRE_ADDRESS_CONNECTIONS": "0"}
    if url is None:
        return auth
    archive = {"TURNWIRE_ARCHIVE": url, "TURNWIRE_ARCHIVE_MIGRATE": "1", "TURNWIRE_ARCHIVE_SYNC": str(int(sync))}
    return auth | archive


def _tokens(count: int) -> list[str]:
    end = int(time.time()) + 3600
    return [jwt.encode({"sub": f"user{n}", "exp": end}, SECRET, "HS256") for n in range(count)]


@asynccontextmanager
async def _side(provider: Upstream, url: str | None, count: int, *, sync: bool = False) -> AsyncIterator[Side]:
    async with (
        redis_process() as store,
        gateway(provider, store=store.url, environment=_environment(url, sync=sync)) as running,
    ):
        tally = Tally()
        sockets = await open_sockets(running.url, count, tally, tokens=_tokens(count))
        yield Side(running.process.pid, store.pid, sockets, tally)
        await close_sockets(sockets)


async def archive(sizes: Sizes) -> Figures:
    """CPU of the gateway, of Redis and of PostgreSQL with an archive, turns per second, and the time until an ending."""
    count = min(100, max(sizes.turns))
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(upstream())
        url, server = stack.enter_context(postgres())
        other = server.url(server.create_database())
        sides = {
            WITHOUT: await stack.enter_async_context(_side(provider, None, count)),
            WITH: await stack.enter_async_context(_side(provider, url, count)),
            SYNC: await stack.enter_async_context(_side(provider, other, count, sync=True)),
        }
        return {
            f"{TOKENS} tokens x {RATE}/s": await _long_turns(sides, server, url, sizes),
            f"{SHORT_TOKENS} tokens x {FAST}/s": await _short_turns(sides, server, sizes),
            "from the last chunk to the ending": await _endings(sides, sizes),
        }


async def _long_turns(sides: dict[str, Side], server: PostgresProcess, url: str, sizes: Sizes) -> Figures:
    """Run turns without an archive and with one at the same time."""
    pair = [sides[WITHOUT], sides[WITH]]
    running = [asyncio.ensure_future(side.run_turns(socket)) for side in pair for socket in side.sockets]
    # The gateways load some things once. The measurement begins after that.
    await asyncio.sleep(min(2 * TOKENS / RATE, 4 * sizes.seconds))
    ratios: list[float] = []
    first, first_database_s = [_spent(side) for side in pair], tree_cpu_s(server.pid)
    size, turns = _size(server, url)
    before = first
    for _ in range(PERIODS):
        await asyncio.sleep(1.5 * sizes.seconds)
        after = [_spent(side) for side in pair]
        bare, archived = (_tokens_per_cpu_s(*both) for both in zip(before, after, strict=True))
        ratios.append(archived / max(bare, 1))
        before = after
    database_s = tree_cpu_s(server.pid) - first_database_s
    for side in pair:
        side.stops = True
    await until_ended(running, pair, TOKENS / RATE + ROUND_TIMEOUT_S)
    await asyncio.sleep(SETTLE_S)
    later, count = _size(server, url)
    figures: Figures = {
        name: {
            "tokens_per_cpu_s": round(_tokens_per_cpu_s(start, end)),
            "redis_cpu_ms_per_turn": round(1000 * (end.redis_s - start.redis_s) / max(end.ended - start.ended, 1), 2),
        }
        for name, start, end in zip((WITHOUT, WITH), first, before, strict=True)
    }
    figures["tokens_per_cpu_s_ratio"] = round(median(ratios), 3)
    figures["postgres_cpu_ms_per_turn"] = round(1000 * database_s / max(before[1].ended - first[1].ended, 1), 2)
    figures["postgres_bytes_per_turn"] = round((later - size) / max(count - turns, 1))
    return figures


@dataclass(frozen=True)
class _Spent:
    """What a side has done so far, and the CPU seconds of its gateway and of its Redis."""

    tokens: int
    ended: int
    cpu_s: float
    redis_s: float


def _spent(side: Side) -> _Spent:
    return _Spent(side.tally.tokens, side.ended, cpu_s(side.pid), cpu_s(side.redis_pid))


def _tokens_per_cpu_s(before: _Spent, after: _Spent) -> float:
    return (after.tokens - before.tokens) / max(after.cpu_s - before.cpu_s, 0.01)


async def _short_turns(sides: dict[str, Side], server: PostgresProcess, sizes: Sizes) -> Figures:
    """Run short turns on one gateway after the other, several times. The CPU times include storing them in the archive."""
    count = 4 * sizes.samples
    runs: dict[str, list[list[float]]] = {name: [] for name in sides}
    for number in range(PERIODS + 1):
        for name, side in sides.items():
            before, database_s, began = _spent(side), tree_cpu_s(server.pid), time.monotonic()
            await side.run_short_turns(count)
            took_s = time.monotonic() - began
            await asyncio.sleep(SETTLE_S)
            after = _spent(side)
            spent_s = (after.cpu_s - before.cpu_s, after.redis_s - before.redis_s, tree_cpu_s(server.pid) - database_s)
            if number:  # the first runs also load what the gateways load once
                runs[name].append([count / took_s, *(1000 * each / count for each in spent_s)])
    names = ("turns_per_s", "cpu_ms_per_turn", "redis_cpu_ms_per_turn", "postgres_cpu_ms_per_turn")
    figures: Figures = {}
    for name, measured in runs.items():
        figures[name] = {
            key: round(median(values), 2) for key, values in zip(names, zip(*measured, strict=True), strict=True)
        }
        for place, key in ((0, "turns_per_s_ratio"), (1, "cpu_ratio")):
            pairs = zip(measured, runs[WITHOUT], strict=True)
            figures[name][key] = round(median(one[place] / max(bare[place], 0.001) for one, bare in pairs), 3)
    return figures


def _size(server: PostgresProcess, url: str) -> tuple[int, int]:
    """Return the bytes of the tables with their indexes, and the number of turns."""
    ((size, turns),) = server.execute(
        "SELECT sum(pg_total_relation_size(oid)), (SELECT count(*) FROM turns) FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
        url.rpartition("/")[2],
    )
    return int(size), int(turns)


async def _endings(sides: dict[str, Side], sizes: Sizes) -> Figures:
    """Return the times from the provider's last chunk to the ending at the client, of turns that run one at a time."""
    took: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(3 * sizes.samples):
        for name, side in sides.items():
            at = await side.run_turn(side.sockets[0], FAST, SHORT_TOKENS)
            took[name].append((at - side.tally.last_ns) / NS_PER_MS)
            await asyncio.sleep(PAUSE_S)
    return {name: spread(times) for name, times in took.items()}
