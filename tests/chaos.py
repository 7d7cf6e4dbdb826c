"""`python -m tests.chaos --seconds 60 --seed 7`: random faults under load, judged by the oracle of `world.py`.

Demo turns can always be continued, so every one of them must complete with exactly its text, whatever is killed, frozen,
restarted or cut meanwhile; a real provider's may end with `owner_lost`. Only what Redis lost together with its owner may
be lost, and is said to be. Two users use the same turn ids, and never see each other's words.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import redis.asyncio

from tests.resilient import Resilient
from tests.world import LEASE_S, WITH_USERS, World, client_of, world

CLIENTS = 4
USERS = ("ann", "bob")
INSTANCES = 3
FAULTS = (
    *("kill", "freeze", "restart", "sockets_drop"),
    *("redis_freezes", "redis_restarts", "redis_rolls_back", "redis_is_full"),
    *("redis_loses_its_data", "replies_are_cut"),
)

HARMLESS = {"restart", "sockets_drop"}
"""What is no excuse for anything that a client could see."""
REAL_SHARE = 0.25


class Chaos:
    """One run: clients that start turns all the time, and a hand that breaks things."""

    def __init__(self, made: World, pick: random.Random, seconds: float, only: list[str]) -> None:
        self._world = made
        self._pick = pick
        self._until = time.monotonic() + seconds
        self._only = only
        self.faults: Counter[str] = Counter()
        self.turns = 0
        self.characters = 0

    @property
    def lost_turns(self) -> int:
        """Of how many turns nobody had anything any more."""
        return self._world.lost_turns

    async def client(self, who: Resilient, name: str) -> None:
        """Start turns, some at once, and check each."""
        pick = self._pick
        round_ = 0
        while time.monotonic() < self._until:
            names = [f"{name}-{round_}-{n}" for n in range(pick.randint(1, 4))]
            round_ += 1
            for turn in names:
                if pick.random() < REAL_SHARE:
                    await self._world.start_real(who, turn)
                else:
                    await self._world.start(who, turn, rate=pick.choice([50, 100, 200]), tokens=pick.randint(20, 400))
            for turn in names:
                await self._world.check(who, turn)
                if turn not in who.lost:
                    self.turns += 1
                    self.characters += len(who.text(turn))

    async def breaker(self, clients: list[Resilient]) -> None:
        """One fault after the other, with a little peace between them."""
        faults = [getattr(self, name) for name in self._only or FAULTS]
        while time.monotonic() < self._until:
            fault = self._pick.choice(faults)
            self.faults[fault.__name__] += 1
            if fault.__name__ in HARMLESS:
                await fault(clients)
            else:
                self._world.record_fault()
                await fault(clients)
                self._world.record_fault()
            await asyncio.sleep(self._pick.uniform(0.5, 2))

    def _victim(self) -> int:
        up = [n for n, one in enumerate(self._world.instances) if one.process.returncode is None]
        return self._pick.choice([n for n in up if n not in self._world.hidden])

    async def kill(self, _: list[Resilient]) -> None:
        """kill -9 of an instance; another one starts."""
        self._world.kill(self._victim())
        await self._world.add()

    async def freeze(self, _: list[Resilient]) -> None:
        """An instance stands still for up to three leases, and goes on."""
        victim = self._victim()
        self._world.freeze(victim)
        await asyncio.sleep(self._pick.uniform(0.1, 3) * LEASE_S)
        self._world.thaw(victim)

    async def restart(self, _: list[Resilient]) -> None:
        """A deploy: one instance leaves in order, another one starts."""
        victim = self._victim()
        await self._world.add()
        self._world.hidden.add(victim)
        self._world.instances[victim].terminate()

    async def redis_freezes(self, _: list[Resilient]) -> None:
        """Redis stands still for up to two leases."""
        self._world.redis.freeze()
        await asyncio.sleep(self._pick.uniform(0.1, 2) * LEASE_S)
        self._world.redis.thaw()

    async def redis_restarts(self, _: list[Resilient]) -> None:
        """Redis is killed and comes back with what its file has."""
        self._world.redis.restart(with_data=True)

    async def redis_rolls_back(self, _: list[Resilient]) -> None:
        """Redis is killed, and its file has lost the newest of what it had said was written."""
        written = self._world.redis.written()
        await asyncio.sleep(self._pick.uniform(0, 0.9))  # `everysec` may be anywhere in its second
        self._world.roll_back(written)
        await asyncio.sleep(self._pick.uniform(0, LEASE_S))
        self._world.redis.start()

    async def redis_loses_its_data(self, _: list[Resilient]) -> None:
        """Redis is killed and comes back with nothing; now and then an instance dies with it, and with that its turns."""
        if self._pick.random() < 0.3:
            self._world.kill(self._victim())
            self._world.lose_data()
            await self._world.add()
        else:
            self._world.lose_data()

    async def replies_are_cut(self, _: list[Resilient]) -> None:
        """For a while replies of Redis are lost, and the connections on which they came, after it has done what they
        answer."""
        for _cut in range(self._pick.randint(1, 30)):
            self._world.redis_proxy.cut(pass_bytes=self._pick.choice([0, 0, 1, 20, 200]))
            await asyncio.sleep(self._pick.uniform(0, 0.1))

    async def redis_is_full(self, _: list[Resilient]) -> None:
        """Redis refuses what is new for a while."""
        async with redis.asyncio.Redis.from_url(self._world.redis.url) as admin:
            await admin.config_set("maxmemory-policy", "noeviction")
            await admin.config_set("maxmemory", "1mb")
            await asyncio.sleep(self._pick.uniform(0.2, 2))
            await admin.config_set("maxmemory", "0")

    async def sockets_drop(self, clients: list[Resilient]) -> None:
        """Every client loses its socket."""
        for who in clients:
            if who.now is not None:
                who.now.socket.transport.abort()


async def run(seconds: float, seed: int, only: list[str]) -> Chaos:
    """One run. Raises whatever the oracle finds."""
    pick = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        async with world(Path(folder), INSTANCES, appendonly=True, **WITH_USERS) as made, AsyncExitStack() as stack:
            chaos = Chaos(made, pick, seconds, only)
            clients = [
                await stack.enter_async_context(
                    client_of(made, seed=seed + n, codec=pick.choice(["json", "msgpack"]), user=USERS[n % 2])
                )
                for n in range(CLIENTS)
            ]
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(chaos.breaker(clients))
                for n, who in enumerate(clients):
                    tasks.create_task(chaos.client(who, f"c{n // 2}"))  # the same ids for both users
            made.check_strangers(clients)
            return chaos


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", nargs="*", choices=FAULTS, default=[], help="break it in these ways alone")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:g} s", flush=True)
    done = asyncio.run(run(options.seconds, options.seed, options.only))
    print(f"{done.turns} turns, {done.characters} characters, none lost or doubled; faults: {dict(done.faults)}")
    print(f"{done.lost_turns} turns were lost with Redis' data, and their clients were told")
    sys.exit(0)


if __name__ == "__main__":
    main()
