"""Two instances on a real Redis Cluster: a master dies, and slots move, under 50 live turns."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from store.redis.keys import user_prefix
from tests.redis_cluster import RedisCluster, redis_cluster, wait_until
from tests.replication import is_replicated
from tests.resilient import Resilient
from tests.upstream import chat
from tests.world import WITH_USERS, World, client_of, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

USERS = [f"user{n}" for n in range(10)]
DEMO: dict[str, Any] = {"rate": 12, "tokens": 150}
REAL_WORDS = [f"w{n} " for n in range(150)]


async def test_a_killed_master_ends_nothing(tmp_path: Path) -> None:
    """50 live turns of ten users on all shards, a tenth of them with a provider that can't continue: a master is killed.
    Each turn completes with all of its text, no provider is asked twice, and no turn is taken over."""
    with redis_cluster(tmp_path / "cluster") as cluster:
        async with world(tmp_path, cluster=cluster, settings=WITH_USERS) as w:
            await _check_50_turns(w, cluster, lambda: _kill_a_master(cluster))


async def test_moved_slots_end_nothing(tmp_path: Path) -> None:
    """The same while the slots of all ten users move to other masters, one after the other."""
    with redis_cluster(tmp_path / "cluster", replicas=0) as cluster:
        async with world(tmp_path, cluster=cluster, settings=WITH_USERS) as w:
            await _check_50_turns(w, cluster, lambda: _move_all(cluster))


def _kill_a_master(cluster: RedisCluster) -> None:
    for master in cluster.masters():
        is_replicated(master)
    cluster.kill_master(_slot(USERS[0]))
    wait_until(cluster.is_ok)


def _move_all(cluster: RedisCluster) -> None:
    for user in USERS:
        cluster.move_slot(_slot(user), cluster.other_master(cluster.master_of(_slot(user))))


def _slot(user: str) -> int:
    return key_slot(user_prefix(user))


async def _check_50_turns(w: World, cluster: RedisCluster, fault: Callable[[], None]) -> None:
    """Start the turns, cause the fault, and check each turn on both instances."""
    assert len({cluster.master_of(_slot(user)).port for user in USERS}) == 3
    async with AsyncExitStack() as stack:
        whos: list[Resilient] = [
            await stack.enter_async_context(client_of(w, n % 2, seed=n, user=user)) for n, user in enumerate(USERS)
        ]
        w.upstream.play(*[chat(*REAL_WORDS).replace(rate=12) for _ in range(5)])
        for n, who in enumerate(whos):
            for turn in range(4 + n % 2):
                await w.start(who, f"t{turn}", **DEMO)
            if n % 2 == 0:
                await who.start("real", input="x", model="openai/m")
        await asyncio.sleep(2)
        w.record_fault()
        await asyncio.to_thread(fault)
        for n, who in enumerate(whos):
            for turn in range(4 + n % 2):
                await w.check(who, f"t{turn}")
            if n % 2 == 0:
                ended = await who.ending("real")
                assert ended["type"] == "turn.completed", ended
                assert who.text("real") == "".join(REAL_WORDS)
        w.check_strangers(whos)
        assert len(w.upstream.requests) == 5
        resets = Counter(view.resets for who in whos for view in who.views.values())
        assert resets == {0: 50}, resets
        assert not any("taken over" in line for one in w.instances for line in one.log)
