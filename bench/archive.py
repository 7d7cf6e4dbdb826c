"""The scenario of the archive: what it costs the gateway, and what PostgreSQL needs for it.

A gateway without an archive and one with it run at the same time with the same load, each on its own Redis, so that
everything else on the machine slows both.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import jwt

from bench.client import Socket, Tally, close_sockets, open_sockets
from bench.harness import FAST, Upstream, gateway, postgres, redis, start_fields, upstream
from bench.process import cpu_s, tree_cpu_s
from bench.scenarios import NS_PER_MS, Figures, Sizes, spread
from tests.postgres_process import PostgresProcess

RATE, TOKENS = 50, 400
SECRET = secrets.token_hex(32)
SETTLE_S = 2.0
"""The time in which the archive gets what the last turns have left."""


@dataclass
class Side:
    """A gateway under load: its sockets, each of its own user, and the number of turns that have ended."""

    pid: int
    sockets: list[Socket]
    tally: Tally
    ended: int = 0
    stops: bool = False

    async def run_turns(self, socket: Socket, tokens: int) -> None:
        """Run one turn after the other, each in its own conversation. The first begins at a random time."""
        await asyncio.sleep(random.uniform(0, tokens / RATE))
        while not self.stops:
            turn = f"a{random.getrandbits(64):x}"
            ended = socket.ending(turn)
            await socket.ask("turn.start", **start_fields(turn, RATE, tokens))
            await ended
            self.ended += 1


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
async def _side(
    provider: Upstream, store: str, url: str | None, count: int, *, sync: bool = False
) -> AsyncIterator[Side]:
    async with gateway(provider, store=store, environment=_environment(url, sync=sync)) as running:
        tally = Tally()
        sockets = await open_sockets(running.url, count, tally, tokens=_tokens(count))
        yield Side(running.process.pid, sockets, tally)
        await close_sockets(sockets)


async def archive(sizes: Sizes) -> Figures:
    """CPU of the gateway, of Redis and of PostgreSQL with an archive, its space, and the time that it adds to an ending."""
    count, tokens = min(100, max(sizes.turns)), TOKENS if sizes.seconds > 1 else 10
    seconds = 6 * sizes.seconds
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(upstream())
        url, server = stack.enter_context(postgres())
        stores = [await stack.enter_async_context(redis()) for _ in range(2)]
        sides = {
            "without": await stack.enter_async_context(_side(provider, stores[0], None, count)),
            "with": await stack.enter_async_context(_side(provider, stores[1], url, count)),
        }
        figures = await _load(sides, server, url, tokens, seconds)
    figures["ending"] = await _endings(sizes)
    return figures


async def _load(sides: dict[str, Side], server: PostgresProcess, url: str, tokens: int, seconds: float) -> Figures:
    running = [
        asyncio.ensure_future(side.run_turns(socket, tokens)) for side in sides.values() for socket in side.sockets
    ]
    await asyncio.sleep(2 * tokens / RATE)  # all turns run, and what is loaded once is loaded
    before = {name: (side.tally.tokens, side.ended, cpu_s(side.pid)) for name, side in sides.items()}
    database_s = tree_cpu_s(server.pid)
    size, turns = _size(server, url)
    await asyncio.sleep(seconds)
    figures: Figures = {}
    for name, side in sides.items():
        had, ended, spent = before[name]
        cpu = cpu_s(side.pid) - spent
        figures[name] = {
            "tokens_per_cpu_s": round((side.tally.tokens - had) / max(cpu, 0.01)),
            "turns_per_s": round((side.ended - ended) / seconds, 1),
        }
    database_s = tree_cpu_s(server.pid) - database_s
    archived = sides["with"].ended - before["with"][1]
    for side in sides.values():
        side.stops = True
    await asyncio.gather(*running)
    await asyncio.sleep(SETTLE_S)
    later, count = _size(server, url)
    figures["ratio"] = round(figures["with"]["tokens_per_cpu_s"] / max(figures["without"]["tokens_per_cpu_s"], 1), 3)
    figures["postgres"] = {
        "cpu_ms_per_turn": round(1000 * database_s / max(archived, 1), 3),
        "bytes_per_turn": round((later - size) / max(count - turns, 1)),
        "archived_turns": count,
    }
    return figures


def _size(server: PostgresProcess, url: str) -> tuple[int, int]:
    """Return the bytes of the tables with their indexes, and the number of turns."""
    ((size, turns),) = server.execute(
        "SELECT sum(pg_total_relation_size(oid)), (SELECT count(*) FROM turns) FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
        url.rpartition("/")[2],
    )
    return int(size), int(turns)


async def _endings(sizes: Sizes) -> Figures:
    """Return the times from the start to the ending of turns of one token, one at a time."""
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(upstream())
        url, server = stack.enter_context(postgres())
        other = server.url(server.create_database())
        kinds: dict[str, tuple[str | None, bool]] = {
            "without": (None, False),
            "with": (url, False),
            "with TURNWIRE_ARCHIVE_SYNC": (other, True),
        }
        took: dict[str, list[float]] = {name: [] for name in kinds}
        sockets = {}
        for name, (database, sync) in kinds.items():
            store = await stack.enter_async_context(redis())
            side = await stack.enter_async_context(_side(provider, store, database, 1, sync=sync))
            sockets[name] = side.sockets[0]
        for number in range(2 * sizes.samples + 10):
            for name, socket in sockets.items():
                turn = f"e{random.getrandbits(64):x}"
                ended = socket.ending(turn)
                began = time.monotonic_ns()
                socket.send({"type": "turn.start", **start_fields(turn, FAST, 1)})
                await ended
                if number >= 10:
                    took[name].append((time.monotonic_ns() - began) / NS_PER_MS)
                await asyncio.sleep(0.01)
    return {name: spread(times) for name, times in took.items()}
