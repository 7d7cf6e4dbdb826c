"""`python -m tests.chaos --seconds 60 --seed 7`: random faults under load, checked by `World.check` in `world.py`.

Demo turns can always be continued, so each of them must complete with exactly its text after any kill, freeze, restart
or cut connection; a turn of a real provider may end with `owner_lost`. A turn can be lost only if Redis
has lost data, and its client is then notified. Two users use the same turn ids and never see each other's prompts.
With an archive, SQL must have exactly what the clients have received, whatever happened to SQL or Redis. An odd seed
sets TURNWIRE_ARCHIVE_SYNC. `--cluster` runs on three masters with three replicas, and kills masters and moves slots.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import redis.asyncio
from redis.crc import key_slot

from store.redis.keys import BUCKETS, bucket_key, user_prefix
from tests.archive_oracle import archive_server
from tests.instances import LEASE_S
from tests.redis_cluster import SLOTS, redis_cluster, wait_until
from tests.resilient import Resilient
from tests.world import WITH_USERS, World, client_of, world

CLIENTS = 4
USERS = ("ann", "bob")
INSTANCES = 3
FAULTS = (
    *("kill", "freeze", "restart", "sockets_drop"),
    *("redis_freezes", "redis_restarts", "redis_rolls_back", "redis_is_full"),
    *("redis_loses_its_data", "replies_are_cut"),
)
INSTANCE_FAULTS = ("kill", "freeze", "restart", "sockets_drop")
CLUSTER_FAULTS = (*INSTANCE_FAULTS, "master_killed", "master_killed", "slot_moved", "slot_moved")
ARCHIVE_FAULTS = ("archive_is_away", "archive_is_away", "archive_is_slow", "redis_is_flushed")

HARMLESS = {"restart", "sockets_drop", "archive_is_away", "archive_is_slow"}
"""Faults after which `World.check` accepts neither a reset nor `owner_lost`."""
ARCHIVE_AWAY_S = 10.0
TALKS = 5
"""The number of conversations in which a client starts turns again and again, in addition to new ones."""
REAL_SHARE = 0.25
"""The share of the turns that use a real provider, which can't continue an interrupted answer."""


class Chaos:
    """One run: clients that start turns continuously, and a task that injects faults."""

    def __init__(self, made: World, rng: random.Random, seconds: float, only: list[str]) -> None:
        self._world = made
        self._random = rng
        self._ends_at = time.monotonic() + seconds
        self._only = only
        self.faults: Counter[str] = Counter()
        self.turns = 0
        self.characters = 0

    @property
    def lost_turns(self) -> int:
        """The number of turns that were lost with all of their data."""
        return self._world.lost_turns

    async def run_client(self, client: Resilient, name: str) -> None:
        """Start turns, several of them concurrently, and check each."""
        rng = self._random
        round_ = 0
        while time.monotonic() < self._ends_at:
            names = [f"{name}-{round_}-{n}" for n in range(rng.randint(1, 4))]
            round_ += 1
            for turn in names:
                if rng.random() < REAL_SHARE:
                    await self._world.start_real(client, turn)
                else:
                    talk = f"{name}-talk-{rng.randrange(TALKS)}" if rng.random() < 0.5 else None
                    demo = {"rate": rng.choice([50, 100, 200]), "tokens": rng.randint(20, 400)}
                    await self._world.start(client, turn, conversation=talk, **demo)
            for turn in names:
                await self._world.check(client, turn)
                if turn not in client.lost:
                    self.turns += 1
                    self.characters += len(client.text(turn))

    async def inject_faults(self, clients: list[Resilient]) -> None:
        """Inject one fault after another, with a pause between them."""
        names: tuple[str, ...] = CLUSTER_FAULTS if self._world.cluster else FAULTS
        if self._world.archive:
            names += ARCHIVE_FAULTS
        faults = [getattr(self, name) for name in self._only or names]
        while time.monotonic() < self._ends_at:
            fault = self._random.choice(faults)
            self.faults[fault.__name__] += 1
            if fault.__name__ in HARMLESS:
                await fault(clients)
            else:
                self._world.record_fault()
                await fault(clients)
                self._world.record_fault()
            await asyncio.sleep(self._random.uniform(0.5, 2))

    def _victim(self) -> int:
        up = [n for n, one in enumerate(self._world.instances) if one.process.returncode is None]
        return self._random.choice([n for n in up if n not in self._world.hidden])

    async def kill(self, _: list[Resilient]) -> None:
        """Kill an instance with SIGKILL, and start another one."""
        self._world.kill(self._victim())
        await self._world.add()

    async def freeze(self, _: list[Resilient]) -> None:
        """Freeze an instance for up to three lease times."""
        victim = self._victim()
        self._world.freeze(victim)
        await asyncio.sleep(self._random.uniform(0.1, 3) * LEASE_S)
        self._world.thaw(victim)

    async def restart(self, _: list[Resilient]) -> None:
        """Start an instance and terminate another one with SIGTERM, as in a deployment."""
        victim = self._victim()
        await self._world.add()
        self._world.hidden.add(victim)
        self._world.instances[victim].terminate()

    async def redis_freezes(self, _: list[Resilient]) -> None:
        """Freeze Redis for up to two lease times."""
        self._world.redis.freeze()
        await asyncio.sleep(self._random.uniform(0.1, 2) * LEASE_S)
        self._world.redis.thaw()

    async def redis_restarts(self, _: list[Resilient]) -> None:
        """Kill Redis, and start it with the data of its file."""
        self._world.redis.restart(with_data=True)

    async def redis_rolls_back(self, _: list[Resilient]) -> None:
        """Kill Redis, and start it with a file that lacks its newest writes, although they were acknowledged."""
        written = self._world.redis.written()
        await asyncio.sleep(self._random.uniform(0, 0.9))  # Redis writes to disk once per second
        self._world.roll_back(written)
        await asyncio.sleep(self._random.uniform(0, LEASE_S))
        self._world.redis.start()

    async def redis_loses_its_data(self, _: list[Resilient]) -> None:
        """Kill Redis, and start it without data; sometimes an instance is killed too, so that its turns are lost."""
        if self._random.random() < 0.3:
            self._world.kill(self._victim())
            self._world.lose_data()
            await self._world.add()
        else:
            self._world.lose_data()

    async def replies_are_cut(self, _: list[Resilient]) -> None:
        """Cut replies of Redis and their connections for a while, after Redis has carried out the calls."""
        for _cut in range(self._random.randint(1, 30)):
            self._world.redis_proxy.cut(pass_bytes=self._random.choice([0, 0, 1, 20, 200]))
            await asyncio.sleep(self._random.uniform(0, 0.1))

    async def redis_is_full(self, _: list[Resilient]) -> None:
        """Make Redis refuse new data for a while."""
        async with redis.asyncio.Redis.from_url(self._world.redis.url) as admin:
            await admin.config_set("maxmemory-policy", "noeviction")
            await admin.config_set("maxmemory", "1mb")
            await asyncio.sleep(self._random.uniform(0.2, 2))
            await admin.config_set("maxmemory", "0")

    async def redis_is_flushed(self, _: list[Resilient]) -> None:
        """Delete everything in Redis; sometimes while the archive is away."""
        if self._random.random() < 0.3:
            await self._without_archive(lambda: self._world.flush(archive_is_away=True))
        else:
            self._world.flush()

    async def archive_is_away(self, _: list[Resilient]) -> None:
        """Let the archive refuse connections, hang or end for a while."""
        await self._without_archive(lambda: None)

    async def _without_archive(self, act: Callable[[], None]) -> None:
        archive = self._world.archive
        assert archive is not None
        way = self._random.choice(["refuses", "hangs", "is killed", "is frozen"])
        begin, end = {
            "refuses": (archive.proxy.refuse, archive.proxy.restore),
            "hangs": (archive.proxy.hang, archive.proxy.restore),
            "is killed": (archive.postgres.kill, archive.postgres.start),
            "is frozen": (archive.postgres.freeze, archive.postgres.thaw),
        }[way]
        self.faults[f"archive {way}"] += 1
        away_s = self._random.uniform(0.1, ARCHIVE_AWAY_S)
        await asyncio.to_thread(begin)
        try:
            await asyncio.sleep(away_s / 2)
            act()
            await asyncio.sleep(away_s / 2)
        finally:
            await asyncio.to_thread(end)

    async def archive_is_slow(self, _: list[Resilient]) -> None:
        """Delay everything to and from the archive for a while."""
        archive = self._world.archive
        assert archive is not None
        archive.proxy.delay_s = self._random.uniform(0.01, 0.5)
        await asyncio.sleep(self._random.uniform(0.5, 5))
        archive.proxy.restore()

    async def master_killed(self, _: list[Resilient]) -> None:
        """Kill a master, wait until its replica is promoted, and start it again as a replica."""
        cluster = self._world.cluster
        assert cluster is not None
        dead = await asyncio.to_thread(cluster.kill_master, self._random.randrange(SLOTS))
        await asyncio.to_thread(wait_until, cluster.is_ok)
        await asyncio.sleep(self._random.uniform(0, 1))
        await asyncio.to_thread(dead.start)
        await asyncio.to_thread(wait_until, cluster.has_replicas)

    async def slot_moved(self, _: list[Resilient]) -> None:
        """Move a user's slot, or the slot of a bucket of the index of leases, to another master."""
        cluster = self._world.cluster
        assert cluster is not None
        key = self._random.choice([*map(user_prefix, USERS), bucket_key(self._random.randrange(BUCKETS))])
        slot = key_slot(key)
        await asyncio.to_thread(cluster.move_slot, slot, cluster.other_master(cluster.master_of(slot)))

    async def sockets_drop(self, clients: list[Resilient]) -> None:
        """Abort the socket of each client."""
        for client in clients:
            if client.now is not None:
                client.now.socket.transport.abort()


async def run(
    seconds: float, seed: int, only: list[str], *, on_cluster: bool = False, with_archive: bool = True
) -> Chaos:
    """Run the clients and the faults. Raises `AssertionError` if a check fails."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        cluster, settings = None, WITH_USERS
        if on_cluster:
            cluster = servers.enter_context(redis_cluster(Path(folder) / "cluster", appendonly=True))
            # A promoted replica may lack what the master wrote last, but no ending that a client has seen.
            settings = {**WITH_USERS, "TURNWIRE_REDIS_WAIT_REPLICAS": "1"}
        async with AsyncExitStack() as stack:
            archive = await stack.enter_async_context(archive_server()) if with_archive else None
            if with_archive and seed % 2:
                settings = {**settings, "TURNWIRE_ARCHIVE_SYNC": "1"}
            made = await stack.enter_async_context(
                world(Path(folder), INSTANCES, appendonly=True, cluster=cluster, archive=archive, settings=settings)
            )
            chaos = Chaos(made, rng, seconds, only)
            clients = [
                await stack.enter_async_context(
                    client_of(made, seed=seed + n, codec=rng.choice(["json", "msgpack"]), user=USERS[n % 2])
                )
                for n in range(CLIENTS)
            ]
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(chaos.inject_faults(clients))
                for n, client in enumerate(clients):
                    tasks.create_task(chaos.run_client(client, f"c{n // 2}"))  # the same ids for both users
            made.check_strangers(clients)
            if archive is not None:
                await made.check_archive()
            return chaos


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    names = sorted({*FAULTS, *CLUSTER_FAULTS, *ARCHIVE_FAULTS})
    parser.add_argument("--only", nargs="*", choices=names, default=[], help="inject only these faults")
    parser.add_argument("--cluster", action="store_true", help="use a Redis Cluster")
    parser.add_argument("--no-archive", action="store_true", help="keep the history only in Redis")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:g} s", flush=True)
    running = run(
        options.seconds,
        options.seed,
        options.only,
        on_cluster=options.cluster,
        with_archive=not options.no_archive,
    )
    done = asyncio.run(running)
    print(f"{done.turns} turns, {done.characters} characters, none lost or doubled; faults: {dict(done.faults)}")
    print(f"{done.lost_turns} turns were lost with Redis' data, and their clients were notified")
    sys.exit(0)


if __name__ == "__main__":
    main()
