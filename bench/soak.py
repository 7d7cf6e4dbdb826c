"""`python -m bench.soak [--minutes M]`: clients connect, start, cancel, disconnect and resume, many times a minute.

After each round it measures memory, file descriptors, threads and Redis connections, which a leak would increase. The
exit code is 1 if the median of one of them is higher in the last third of the rounds than in the middle third, by more
than `ROOM`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median

import redis.asyncio
import uvloop

from bench.client import Socket, Tally, close_sockets, open_sockets
from bench.harness import FAST, ROUND_TIMEOUT_S, gateway, start_fields, upstream
from bench.harness import redis as redis_server
from bench.process import memory_bytes, open_files

SOCKETS = 40
TURNS_PER_SOCKET = 4
QUICK = {"TURN_LOG_TTL": "5", "TURNWIRE_DISCONNECT_GRACE_S": "0.5"}
"""Short times, because ended turns that are kept for minutes would look like a leak."""
ROOM = {"memory_mib": 3.0, "open_files": 3.0, "threads": 1.0, "redis_connections": 2.0}
"""The tolerated increase of each level from the middle third to the last."""


@dataclass(frozen=True)
class Sample:
    """The resources of the gateway after a round, and the connections of its Redis."""

    memory_mib: float
    open_files: float
    threads: float
    redis_connections: float


async def one_round(url: str) -> int:
    """Run one round of clients. Return the number of turns."""
    pick = random.Random()
    tally = Tally()
    sockets = await open_sockets(url, SOCKETS, tally, pick.choice(("json", "msgpack")))
    prefix = f"s{pick.getrandbits(40):x}"
    gone, there = sockets[: SOCKETS // 4], sockets[SOCKETS // 4 :]
    await asyncio.gather(*(_ask(socket, f"{prefix}-{n}", pick) for n, socket in enumerate(sockets)))
    for socket in gone:
        socket.transport.underlying_transport.abort()
    returned = await open_sockets(url, len(gone), tally)
    endings = []
    for n, socket in enumerate(returned):
        turn = f"{prefix}-{n}-0"
        ending = socket.ending(turn)
        _, answer = await socket.ask("turn.attach", turn=turn)
        if "error" not in answer["turns"][turn]:  # on a slow machine the turn's events may be gone already
            endings.append(ending)
    async with asyncio.timeout(ROUND_TIMEOUT_S):
        await asyncio.gather(*endings)
        await asyncio.gather(*(_all_ended(socket) for socket in there))
    await close_sockets([*there, *returned])
    return SOCKETS * TURNS_PER_SOCKET


async def _ask(socket: Socket, prefix: str, pick: random.Random) -> None:
    """Start several turns. Cancel one of them, and let another be cancelled if its client disconnects."""
    for number in range(TURNS_PER_SOCKET):
        turn = f"{prefix}-{number}"
        kind = {"on_disconnect": "cancel"} if number == 3 else {}
        await socket.ask("turn.start", **start_fields(turn, FAST, pick.randint(20, 300)), **kind)
    await socket.ask("turn.cancel", turn=f"{prefix}-1")


async def _all_ended(socket: Socket) -> None:
    while socket.live_turns:  # noqa: ASYNC110 - a short delay doesn't matter here
        await asyncio.sleep(0.02)


async def sample(pid: int, link: redis.asyncio.Redis) -> Sample:
    """Measure the resources now."""
    threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    connected = (await link.info("clients"))["connected_clients"]
    return Sample(memory_bytes(pid) / 2**20, open_files(pid), threads, connected)


async def soak(minutes: float) -> int:
    """Run rounds for `minutes`, and at least nine. Return the exit code."""
    samples: list[Sample] = []
    turns = 0
    async with upstream() as provider, redis_server() as store:
        async with gateway(provider, store=store, environment=QUICK) as running, redis.asyncio.from_url(store) as link:
            until = time.monotonic() + minutes * 60
            while time.monotonic() < until or len(samples) < 9:
                turns += await one_round(running.url)
                await asyncio.sleep(1.0)
                samples.append(await sample(running.process.pid, link))
                if len(samples) % 5 == 1:
                    print(f"{turns} turns: {samples[-1]}", flush=True)
    return judge(samples, turns)


def judge(samples: list[Sample], turns: int) -> int:
    """Compare the last third of the rounds with the middle third. Return the exit code."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    grown = 0
    for place, field in enumerate(fields(Sample)):
        before, after = (median(astuple(one)[place] for one in part) for part in (middle, last))
        slope = after - before > ROOM[field.name]
        grown += slope
        print(f"{field.name}: {before:.1f} -> {after:.1f}{'  GROWS' if slope else ''}")
    print(f"{turns} turns in {len(samples)} rounds: {'resources grow' if grown else 'no growth'}")
    return 1 if grown else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        sys.exit(loop.run(soak(parser.parse_args().minutes)))
