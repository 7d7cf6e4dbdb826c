"""`python -m bench.scaling [--runs N] [--small] [PART …]`: the measurements of docs/scaling.md, printed as JSON.

Redis runs as a cluster of three masters with a replica each, on loopback, with append-only files as in production. CPU
is that of the processes, less what they use at rest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import redis
import uvloop

from bench import scaling_archive
from bench.__main__ import median_of
from bench.client import Socket, Tally, close_sockets, open_sockets
from bench.harness import FAST, gateway, start_fields, upstream
from bench.process import cpu_s
from bench.scaling_archive import AUTH, credentials
from bench.scenarios import Figures
from bench.texts import prose
from tests.redis_cluster import RedisCluster, redis_cluster
from tests.redis_process import RedisProcess

ENDING_S = 120.0
"""How long an answer may take on a busy machine."""
SETTLE_S = 4.0
"""The time in which a gateway loads what it loads once."""
TOKEN_CHARS = 17
RATE, INPUT_TOKENS, OUTPUT_TOKENS = 50, 60, 350
_KIND = re.compile(r"turnwire:(?:\{[^}]*\}:)?(\w+)")
_APPENDS = re.compile(r'^turnwire_store_seconds_count\{operation="append"\} (\S+)$', re.MULTILINE)


def persist(node: RedisProcess) -> None:
    """Set a Redis up as in production. A node that is slow for a moment isn't given up."""
    settings = {"appendfsync": "everysec", "appendonly": "yes", "maxmemory-policy": "noeviction"}
    for name, value in settings.items():
        node.execute("CONFIG", "SET", name, value)
    if b"cluster_enabled:1" in node.execute("INFO", "CLUSTER"):
        node.execute("CONFIG", "SET", "cluster-node-timeout", "15000")


@asynccontextmanager
async def real_cluster() -> AsyncIterator[RedisCluster]:
    """Run a cluster for this run only."""
    with tempfile.TemporaryDirectory() as folder, redis_cluster(Path(folder)) as running:
        for node in running.nodes:
            persist(node)
        yield running


@asynccontextmanager
async def one_redis() -> AsyncIterator[RedisProcess]:
    """Run a single Redis for this run only."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisProcess(Path(folder) / "redis")
        server.start()
        try:
            persist(server)
            yield server
        finally:
            server.kill()


class Side:
    """A gateway with its Redis servers and one socket for each user."""

    def __init__(self, url: str, pid: int, nodes: dict[str, RedisProcess]) -> None:
        self.url, self.pid, self.nodes = url, pid, nodes
        self.tally = Tally()
        self.sockets: list[Socket] = []
        self.turns = 0

    async def run(self, turns: int, tokens: int) -> None:
        """Run `turns` turns of each user, one after the other."""

        async def some(socket: Socket) -> None:
            for _ in range(turns):
                turn = f"s{random.getrandbits(64):x}"
                ended = socket.ending(turn)
                socket.send({"type": "turn.start", **start_fields(turn, FAST, tokens)})
                await ended
                self.turns += 1

        await asyncio.gather(*(some(socket) for socket in self.sockets))

    def counts(self) -> dict[str, float]:
        """Return the counts so far: seconds of CPU by process, reads from sockets at the masters, flushes, tokens, turns."""
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            appends = _APPENDS.search(answer.read().decode())
        found = {"gateway_s": cpu_s(self.pid), "flushes": float(appends[1]) if appends else 0.0}
        reads = 0
        for name, node in self.nodes.items():
            stats = info(node)
            found[f"{name}_s"] = stats["used_cpu_user"] + stats["used_cpu_sys"]
            reads += 0 if name.startswith("replica") else stats["total_reads_processed"]
        return found | {"reads": reads, "tokens": self.tally.tokens, "turns": self.turns, "at": time.monotonic()}


def info(node: RedisProcess) -> dict[str, Any]:
    """Return what a Redis says of itself."""
    with redis.Redis(port=node.port) as link:
        answer: dict[str, Any] = link.info()
        return answer


def difference(before: dict[str, float], after: dict[str, float], rest: dict[str, float]) -> dict[str, float]:
    """Return what was counted between two calls of `Side.counts`, less what is counted in a time of rest."""
    share = (after["at"] - before["at"]) / rest["at"] if rest else 0
    kept = {name: after[name] - before[name] for name in before}
    counted = {name: kept[name] - share * rest.get(name, 0) for name in kept if name.endswith("_s") or name == "reads"}
    return kept | counted


async def costs(*, small: bool) -> Figures:
    """CPU of a token and of a turn: of the gateway and of each Redis, with one Redis and with a cluster at the same time."""
    users, seconds, turns = (12, 1.0, 2) if small else (48, 16.0, 24)
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(upstream())
        cluster = await stack.enter_async_context(real_cluster())
        single = await stack.enter_async_context(one_redis())
        masters = cluster.masters()
        named = {f"master{n}": node for n, node in enumerate(masters)}
        named |= {f"replica{n}": node for n, node in enumerate(node for node in cluster.nodes if node not in masters)}
        sides: dict[str, Side] = {}
        for name, url, nodes in (("one", single.url, {"master0": single}), ("cluster", cluster.url, named)):
            running = await stack.enter_async_context(
                gateway(provider, store=url, environment=AUTH | {"TURNWIRE_METRICS": "public"})
            )
            side = sides[name] = Side(running.url, running.process.pid, nodes)
            side.sockets = await open_sockets(running.url, users, side.tally, tokens=credentials(users))
        await asyncio.gather(*(side.run(1, 10) for side in sides.values()))
        await asyncio.sleep(SETTLE_S)
        rest = await _measured(sides, asyncio.sleep(seconds / 2), {})
        for side in sides.values():
            for socket in side.sockets:
                await socket.ask("turn.start", **start_fields(f"l{random.getrandbits(64):x}", RATE))
        await asyncio.sleep(SETTLE_S)
        live = await _measured(sides, asyncio.sleep(seconds), rest)
        for side in sides.values():
            await asyncio.gather(*(socket.ask("turn.cancel", mine=True) for socket in side.sockets))
        await asyncio.sleep(1)
        short = await _measured(sides, asyncio.gather(*(side.run(turns, 10) for side in sides.values())), rest)
        for side in sides.values():
            await close_sockets(side.sockets)
    figures: Figures = {name: _costs(rest[name], live[name], short[name]) for name in sides}
    for what in ("gateway_us_per_token", "gateway_ms_per_turn"):
        figures[f"{what}_ratio"] = round(figures["cluster"][what] / figures["one"][what], 3)
    return figures


async def _measured(
    sides: dict[str, Side], work: Any, rest: dict[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    before = {name: side.counts() for name, side in sides.items()}
    await work
    return {name: difference(before[name], side.counts(), rest.get(name, {})) for name, side in sides.items()}


def _costs(rest: dict[str, float], live: dict[str, float], short: dict[str, float]) -> Figures:
    def spent_s(counted: dict[str, float], kind: str) -> float:
        return sum(value for name, value in counted.items() if name.startswith(kind) and name.endswith("_s"))

    token_s = {kind: spent_s(live, kind) / live["tokens"] for kind in ("gateway", "master", "replica")}
    turn_s = {kind: (spent_s(short, kind) - 10 * short["turns"] * token_s[kind]) / short["turns"] for kind in token_s}
    masters = sorted(name for name in live if name.startswith("master"))
    each_token_s = {name: live[name] / live["tokens"] for name in masters}
    return {
        **{f"{kind}_us_per_token": round(1e6 * spent, 2) for kind, spent in token_s.items()},
        **{f"{kind}_ms_per_turn": round(1e3 * spent, 3) for kind, spent in turn_s.items()},
        "each_master_us_per_1000_tokens": [round(1e9 * spent) for spent in each_token_s.values()],
        "each_master_us_per_turn": [
            round(1e6 * (short[name] / short["turns"] - 10 * each_token_s[name])) for name in masters
        ],
        "reads_per_flush": round(live["reads"] / live["flushes"], 2),
        "tokens_per_flush": round(live["tokens"] / live["flushes"], 1),
        "at_rest_ms_per_s": {
            kind: round(1000 * spent_s(rest, kind) / rest["at"], 2) for kind in ("gateway", "master", "replica")
        },
    }


async def memory(*, small: bool) -> Figures:
    """Memory of the masters: of a live turn, of what stays of it and for how long, of a conversation and of a user."""
    users, many = (15, 20) if small else (150, 310)
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(upstream())
        cluster = await stack.enter_async_context(real_cluster())
        running = await stack.enter_async_context(gateway(provider, store=cluster.url, environment=AUTH))
        masters = cluster.masters()
        sockets = await open_sockets(running.url, users + 1, Tally(), tokens=credentials(users + 1))
        busy = Side(running.url, running.process.pid, {})
        busy.sockets = [sockets.pop()]
        await busy.run(many, 1)  # also loads what is loaded once
        lists, rest = _kinds(masters), _kinds(masters)
        level = _used(masters)
        first = await asyncio.gather(*(_prose_turn(socket, None) for socket in sockets))
        one = _less(_kinds(masters), rest)
        await asyncio.gather(*map(_prose_turn, sockets, first))
        two = _less(_kinds(masters), rest)
        level, by_master = _used(masters) - level, [info(master)["db0"]["keys"] for master in masters]
        third = [asyncio.ensure_future(_prose_turn(*each)) for each in zip(sockets, first, strict=True)]
        await asyncio.sleep(OUTPUT_TOKENS / RATE / 2)
        half = _less(_less(_kinds(masters), rest), two)
        await asyncio.gather(*third)
        await close_sockets([*sockets, *busy.sockets])
    of_turn, in_lists = ("log", "turn", "message", "usage"), ("conversations", "sizes")
    return {
        "log of an ended turn, for TURN_LOG_TTL": round((two["log"] - one["log"]) / users),
        "record of an ended turn, for 24 h": round((two["turn"] - one["turn"]) / users),
        "its two messages, for CHAT_HISTORY_TTL": round((two["message"] - one["message"]) / users),
        "its usage, for 31 days": round(lists["usage"] / many),
        "a conversation, for CHAT_HISTORY_TTL": round(
            (one["conversation"] + one["messages"]) / users + sum(lists[kind] for kind in in_lists) / many
        ),
        "a user": round(sum(one[kind] for kind in ("day", "totals", "stored", "starts")) / users),
        "a live turn at half of its answer": round(sum(half[kind] for kind in ("log", "turn", "message")) / users),
        "other keys": {kind: size for kind, size in one.items() if kind not in {*of_turn, *in_lists}},
        "all keys of two turns": round(sum(two.values()) / users),
        "used memory of two turns": round(level / users),
        "keys_by_master": by_master,
    }


async def _prose_turn(socket: Socket, conversation: str | None) -> str:
    """Run a turn with a usual input, answer and rate, and return its conversation."""
    turn = f"p{random.getrandbits(64):x}"
    ended = socket.ending(turn)
    placed = {} if conversation is None else {"conversation": conversation}
    model = f"openai/prose-{RATE}-{OUTPUT_TOKENS}"
    _, started = await socket.ask("turn.start", turn=turn, model=model, input=prose(INPUT_TOKENS), **placed)
    await ended
    return str(started["conversation"])


def _used(masters: list[RedisProcess]) -> int:
    """Return the memory that the masters use for data."""
    other = ("mem_clients_normal", "mem_total_replication_buffers", "mem_aof_buffer", "mem_cluster_links")
    return sum(stats["used_memory"] - sum(stats[name] for name in other) for stats in map(info, masters))


def _kinds(masters: list[RedisProcess]) -> Counter[str]:
    """Return the bytes of the keys of each kind."""
    sizes = Counter[str]()
    for master in masters:
        with redis.Redis(port=master.port) as link:
            for key in link.scan_iter(count=1000):
                found = _KIND.match(key.decode())
                sizes[found[1] if found else "other"] += int(
                    link.execute_command("MEMORY", "USAGE", key, "SAMPLES", 0) or 0
                )
    return sizes


def _less(sizes: Counter[str], before: Counter[str]) -> Counter[str]:
    return Counter({kind: size - before[kind] for kind, size in sizes.items()})


async def live(*, small: bool) -> Figures:
    """200 live turns on a cluster and two instances: 52 are cancelled, 20 resumed at the other instance; all are checked."""
    users, tokens, rate = (10, 60, 25) if small else (50, 300, 5)
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(upstream())
        cluster = await stack.enter_async_context(real_cluster())
        instances = [
            (await stack.enter_async_context(gateway(provider, store=cluster.url, environment=AUTH))).url
            for _ in range(2)
        ]
        tally = Tally()
        tally.checked_turns = {}
        known = credentials(users)
        sockets = [(await open_sockets(instances[n % 2], 1, tally, tokens=[known[n]]))[0] for n in range(users)]
        others = [(await open_sockets(instances[1 - n % 2], 1, Tally(), tokens=[known[n]]))[0] for n in range(users)]
        turns = [await _start_four(socket, rate, tokens) for socket in sockets]
        await asyncio.sleep(2)
        cancelled = {name for n in range(0, users, 4) for name in turns[n]}
        for n in range(0, users, 4):
            for k, name in enumerate(turns[n]):
                await (sockets[n], others[n])[k % 2].ask("turn.cancel", turn=name)
        moved = range(1, users, 10)
        for n in moved:
            sockets[n].transport.disconnect()
            await sockets[n].closed.wait()
            (again,) = await open_sockets(instances[1 - n % 2], 1, tally, tokens=[known[n]])
            for name, turn in turns[n].items():
                turn["ended"] = again.ending(name)
            seen = {
                name: {"epoch": turn["epoch"], "seq": tally.checked_turns[name].seq} for name, turn in turns[n].items()
            }
            await again.ask("turn.attach", positions=seen)
            sockets[n] = again
        figures = await _checked(instances, known, turns, cancelled, tally, tokens)
        await close_sockets([*sockets, *others])
    return figures | {"resumed elsewhere": 4 * len(moved)}


async def _start_four(socket: Socket, rate: int, tokens: int) -> dict[str, dict[str, Any]]:
    turns = {}
    for _ in range(4):
        name = f"v{random.getrandbits(64):x}"
        ended = socket.ending(name)
        _, started = await socket.ask("turn.start", **start_fields(name, rate, tokens))
        turns[name] = {**started, "ended": ended}
    return turns


async def _checked(
    instances: list[str],
    known: list[str],
    turns: list[dict[str, dict[str, Any]]],
    cancelled: set[str],
    tally: Tally,
    tokens: int,
) -> Figures:
    """Wait for all endings, and compare what clients received with what is stored. The other instance reads it."""
    assert tally.checked_turns is not None
    endings, wrong = Counter[str](), Counter[str]()
    missing: list[Any] = []
    await asyncio.wait([turn["ended"] for mine in turns for turn in mine.values()], timeout=ENDING_S)
    for n, mine in enumerate(turns):
        for name, turn in mine.items():
            if not turn["ended"].done():
                wrong["no ending"] += 1
                missing.append({"user": n, "turn": name, "seq": tally.checked_turns[name].seq})
                continue
            ended = turn["ended"].result()
            endings[ended["type"]] += 1
            received = tally.checked_turns[name]
            wrong["ending"] += ended["type"] != ("turn.cancelled" if name in cancelled else "turn.completed")
            wrong["gap"] += received.broken
            wrong["incomplete"] += name not in cancelled and received.tokens != tokens
            request = urllib.request.Request(
                f"{instances[1 - n % 2]}/v1/conversations/{turn['conversation']}/messages",
                headers={"authorization": f"Bearer {known[n]}"},
            )
            stored = (await asyncio.to_thread(_json, request))["messages"]
            text = "".join(part["text"] for part in stored[-1]["parts"])
            wrong["stored text"] += len(text) != TOKEN_CHARS * received.tokens
            wrong["stored ending"] += f"turn.{stored[-1]['ended']}" != ended["type"]
    return {"endings": dict(endings), "wrong": dict(wrong), "without an ending": missing}


def _json(request: urllib.request.Request) -> Any:
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


Part = Callable[..., Coroutine[Any, Any, Figures]]
PARTS: tuple[Part, ...] = (costs, memory, live, scaling_archive.archive)


def main() -> None:
    """Run the parts, and print their figures: medians, and each run."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    names = {part.__name__: part for part in PARTS}
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(names)} (default: all)")
    parser.add_argument("--runs", type=int, default=1, help="number of runs whose medians are printed")
    parser.add_argument("--small", action="store_true", help="use tiny sizes, to check that it works")
    options = parser.parse_args()
    for name in options.parts or names:
        if name not in names:
            parser.error(f"unknown part: {name}")
        runs = []
        for _ in range(options.runs):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as starter:
                runs.append(starter.run(names[name](small=options.small)))
        print(json.dumps({name: {"median": median_of(runs), "runs": runs}}, indent=2), flush=True)


if __name__ == "__main__":
    main()
