"""The Redis store passes the conformance tests on a cluster of three masters, and keeps its promises while masters die and
slots move."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from store.api import Store, instance_channel, turn_channel
from store.errors import PartFailed, StoreError
from store.records import Append, Appended, TurnRecord
from store.redis import client as client_module
from store.redis import store as store_module
from store.redis.keys import user_prefix
from store.redis.node import RedisNode
from store.redis.store import RedisStore
from tests.in_time import checks_time_limit, within
from tests.redis_cluster import SLOTS, RedisCluster, redis_cluster, wait_until
from tests.redis_process import RedisProcess, redis_process, redis_store, speaks_tls
from tests.replication import is_replicated
from tests.store_conformance import StoreConformance
from tests.stored import (
    OpenStore,
    conversation,
    ending,
    eventually,
    listening,
    new_turn,
    piece,
    running,
    stateless_turn,
)
from tests.unit.store.test_redis import refusal, scripts_with_shebang


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster for tests that kill no node."""
    with redis_cluster(tmp_path_factory.mktemp("cluster"), replicas=0) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: RedisCluster) -> RedisCluster:
    """The shared cluster without data."""
    shared_cluster.flush()
    return shared_cluster


class TestCluster(StoreConformance):
    """With three masters. Redis checks the slot of every key and channel that a script uses."""

    many = 1000

    @pytest.fixture
    async def open_store(self, cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenStore]:
        """Stores on one empty cluster."""
        monkeypatch.setattr(client_module, "load_scripts", scripts_with_shebang)
        async with AsyncExitStack() as stores:

            async def open_store() -> Store:
                return await stores.enter_async_context(redis_store(cluster.url))

            yield open_store


def users_of(cluster: RedisCluster, each: int) -> list[str]:
    """Return users: `each` for each master."""
    found: dict[int, list[str]] = {master.port: [] for master in cluster.masters()}
    ranges = cluster.ranges()
    number = 0
    while any(len(users) < each for users in found.values()):
        user = f"user{number}"
        number += 1
        port = next(port for first, last, port in ranges if first <= slot_of(user) <= last)
        if len(found[port]) < each:
            found[port].append(user)
    return [user for users in found.values() for user in users]


def slot_of(user: str) -> int:
    """Return the slot of the user's keys."""
    return key_slot(user_prefix(user))


async def test_10000_users_are_spread_over_the_masters() -> None:
    """Each shard gets its share of 10,000 users: within 4% of three shards, 8% of nine, and 30% of 64."""
    for shards, most in ((3, 0.04), (9, 0.08), (64, 0.3)):
        size = SLOTS / shards
        counts = Counter(int(slot_of(f"user-{n}") / size) for n in range(10_000))
        assert len(counts) == shards
        assert all(abs(count / (10_000 / shards) - 1) < most for count in counts.values()), counts


async def test_a_flush_takes_one_round_trip_per_node_in_parallel(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The appends of 200 turns of 99 users are three round trips, all of which begin before one ends."""
    log: list[tuple[str, str, int]] = []
    round_trip = RedisNode.round_trip

    async def recorded(self: RedisNode, commands: Any, repeatable: bool) -> list[Any]:
        log.append(("begin", self.address, len(commands)))
        replies = await round_trip(self, commands, repeatable)
        log.append(("end", self.address, len(commands)))
        return replies

    async with redis_store(cluster.url) as store:
        users = users_of(cluster, 33)
        turns = [await running(store, stateless_turn(f"t{n}", users[n % len(users)])) for n in range(200)]
        monkeypatch.setattr(RedisNode, "round_trip", recorded)
        outcomes = await store.append([piece(turn, 1, 3) for turn in turns])
        assert outcomes == [Appended("stored", 3)] * 200
        assert [kind for kind, _, _ in log] == ["begin"] * 3 + ["end"] * 3
        assert len({address for _, address, _ in log}) == 3
        assert sum(count for kind, _, count in log if kind == "begin") == 200


async def test_the_url_of_one_node_uses_the_whole_cluster(cluster: RedisCluster) -> None:
    """`redis://` with a node of a cluster works like a URL of all nodes."""
    async with redis_store(cluster.nodes[1].url) as store, listening(store) as received:
        for user in users_of(cluster, 1):
            turn = await running(store, stateless_turn("t", user))
            await store.subscribe(turn_channel(user, "t"))
            assert await store.append([piece(turn, 1, 1)]) == [Appended("stored", 1)]
            assert (await received.next())[0] == turn_channel(user, "t")


async def test_channels_are_sharded(cluster: RedisCluster) -> None:
    """A user's channel is subscribed only at the master of the user's slot, and the channel of an instance at one master."""
    async with redis_store(cluster.url) as store, listening(store) as received:
        users = users_of(cluster, 2)
        for user in users:
            await store.subscribe(turn_channel(user, "t"))
        counts = [len(master.execute("PUBSUB", "SHARDCHANNELS", "*")) for master in cluster.masters()]
        assert counts == [2, 2, 2]
        await store.subscribe(instance_channel("one"))
        turn = await running(store, stateless_turn("t", users[0]))
        assert await store.request_cancel(users[0], turn.turn, b"stop")
        assert (await received.next())[0] == instance_channel("one")


async def test_a_cluster_without_sharded_pubsub(cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """With classic pub/sub, as for Redis 6.2, messages reach a subscriber from every master."""
    monkeypatch.setattr(store_module, "SHARDED_PUBSUB", (99,))
    async with redis_store(cluster.url) as store, listening(store) as received:
        for user in users_of(cluster, 1):
            turn = await running(store, stateless_turn("t", user))
            await store.subscribe(turn_channel(user, "t"))
            await store.append([piece(turn, 1, 1)])
            assert (await received.next())[0] == turn_channel(user, "t")
        await store.subscribe(instance_channel("one"))
        assert await store.request_cancel(user, "t", b"stop")
        assert (await received.next())[0] == instance_channel("one")
        assert not any(master.execute("PUBSUB", "SHARDCHANNELS", "*") for master in cluster.masters())


async def test_a_lost_connection_of_one_node_is_reported(cluster: RedisCluster) -> None:
    """Law 7: when the subscribers of one master are disconnected, `on_reconnect` is called, and all channels work."""
    async with redis_store(cluster.url) as store, listening(store) as received:
        users = users_of(cluster, 2)
        for user in users:
            await store.subscribe(turn_channel(user, "t"))
        cluster.masters()[1].execute("CLIENT", "KILL", "TYPE", "pubsub")

        async def reconnected() -> bool:
            return received.reconnects == 1

        await eventually(reconnected)
        for user in users:
            await store.publish(turn_channel(user, "t"), b"x")
            assert await received.next() == (turn_channel(user, "t"), b"x")


async def test_scripts_are_loaded_again_at_each_node(cluster: RedisCluster) -> None:
    """After SCRIPT FLUSH at all masters, a batch over all of them works."""
    async with redis_store(cluster.url) as store:
        turns = [await running(store, stateless_turn("t", user)) for user in users_of(cluster, 3)]
        for master in cluster.masters():
            master.execute("SCRIPT", "FLUSH")
        assert await store.append([piece(turn, 1, 1) for turn in turns]) == [Appended("stored", 1)] * 9


async def test_a_user_is_whole_while_its_slot_moves(cluster: RedisCluster) -> None:
    """While half of a user's keys are at the old master and half at the new one, the user's calls wait, other users'
    don't, and nothing runs on half of the data. When the slot has moved, the calls that wait succeed."""
    async with redis_store(cluster.url) as store, listening(store) as received:
        await store.create_conversation(conversation(user="ann"))
        turn = await running(store, new_turn(user="ann"))
        await store.append([piece(turn, 1, 3)])
        await store.subscribe(turn_channel("ann", "t1"))
        slot = slot_of("ann")
        source = cluster.master_of(slot)
        target = cluster.other_master(source)
        other = next(user for user in users_of(cluster, 2) if user != "ann" and slot_of(user) != slot)
        cluster.begin_move(slot, target)
        assert cluster.move_keys(slot, source, target, 2) == 2
        theirs = await running(store, stateless_turn("theirs", other))
        with within(1):
            both = await store.append([piece(turn, 4, 4), piece(theirs, 1, 1)])
        assert both == [Appended("unavailable", 0), Appended("stored", 1)]
        with pytest.raises(StoreError, match="moving"):
            await store.turn("ann", "t1")
        with within(1):
            await running(store, stateless_turn("other", other))
        waiting = asyncio.get_running_loop().create_task(store.end(ending(turn, events=piece(turn, 4, 9))))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        while cluster.move_keys(slot, source, target):
            pass
        cluster.end_move(slot, target)
        ended = await waiting
        assert ended is not None
        assert ended.messages == 2
        assert len(await store.log("ann", "t1", 0)) == 2

        async def reconnected() -> bool:
            return received.reconnects >= 1

        await eventually(reconnected)
        await store.publish(turn_channel("ann", "t1"), b"again")
        async with asyncio.timeout(5):
            while await received.next() != (turn_channel("ann", "t1"), b"again"):
                pass
        cluster.move_slot(slot, source)


async def test_single_keys_follow_an_ask(cluster: RedisCluster) -> None:
    """A value whose slot moves can be read and written in all stages, wherever it is."""
    async with redis_store(cluster.url) as store:
        names = [f"k{n}" for n in range(50)]
        slot = key_slot(b"turnwire:note:k0")
        source = cluster.master_of(slot)
        target = cluster.other_master(source)
        await store.put_ephemeral("k0", b"old", 60_000)
        cluster.begin_move(slot, target)
        assert await store.get_ephemeral(names) == [b"old", *[None] * 49]
        cluster.move_keys(slot, source, target)
        assert await store.get_ephemeral(names) == [b"old", *[None] * 49]
        assert await store.put_ephemeral("k0", b"new", 60_000) == b"old"
        cluster.end_move(slot, target)
        assert await store.get_ephemeral(["k0"]) == [b"new"]
        cluster.move_slot(slot, source)


async def test_slots_move_under_load(cluster: RedisCluster) -> None:
    """The slots of ten users with live turns move while events are appended and delivered: no event is missing."""
    async with redis_store(cluster.url) as store, redis_store(cluster.url) as other, listening(other) as received:
        users = users_of(cluster, 4)[:10]
        turns = [await running(store, stateless_turn("t", user)) for user in users]
        for user in users:
            await other.subscribe(turn_channel(user, "t"))
        stop = asyncio.Event()
        writers = [asyncio.get_running_loop().create_task(_write(store, turn, stop)) for turn in turns]
        for user in users:
            slot = slot_of(user)
            await asyncio.to_thread(cluster.move_slot, slot, cluster.other_master(cluster.master_of(slot)))
        await asyncio.sleep(0.5)
        stop.set()
        ends = await asyncio.gather(*writers)
        assert min(ends) > 20
        for user, end in zip(users, ends, strict=True):
            log = await store.log(user, "t", 0)
            assert (log[0].first, log[-1].last) == (1, end)
            assert all(one.last + 1 == two.first for one, two in pairwise(log))
            await store.publish(turn_channel(user, "t"), b"last")
        missing = {turn_channel(user, "t") for user in users}
        async with asyncio.timeout(5):
            while missing:
                channel, payload = await received.next()
                if payload == b"last":
                    missing.discard(channel)


async def _write(store: RedisStore, turn: TurnRecord, stop: asyncio.Event) -> int:
    """Append events until `stop`, as the log writer does, and return the last one's seq."""
    seq = 0
    while not stop.is_set():
        (reply,) = await _append(store, piece(turn, seq + 1, seq + 1))
        assert reply.outcome in {"stored", "unavailable"}, reply
        if reply.outcome == "stored":
            seq = reply.end
        await asyncio.sleep(0.01)
    return seq


async def _append(store: RedisStore, append: Append) -> list[Appended]:
    try:
        return await store.append([append])
    except StoreError:
        return [Appended("unavailable", 0)]


async def test_a_half_down_cluster_is_explained(tmp_path: Path) -> None:
    """If a master is dead and has no replica, the error at the start names it and its slots. If a slot has no master,
    the error names the slot."""
    with redis_cluster(tmp_path, replicas=0) as cluster:
        for node in cluster.nodes:
            node.execute("CLUSTER", "DELSLOTS", 16000)
        assert "no master has the slots 16000-16000" in await refusal(cluster.url)
        cluster.nodes[2].execute("CLUSTER", "ADDSLOTS", 16000)
        wait_until(cluster.is_ok)
        dead = cluster.kill_master(0)
        message = await refusal(cluster.url)
        assert f"127.0.0.1:{dead.port} (5461 of 16384 slots): The store can't be reached." in message
        assert "1 of the cluster's 3 masters can't be used" in message


async def test_a_url_of_a_cluster_that_names_a_single_redis_is_explained(tmp_path: Path) -> None:
    """The error says which URL to use."""
    with redis_process(tmp_path / "redis") as server:
        message = await refusal(f"redis+cluster://:s3cret@127.0.0.1:{server.port}")
        assert "credentials" in message
        assert "use redis://" in (await refusal(f"redis+cluster://127.0.0.1:{server.port}")).lower()


@checks_time_limit
async def test_a_killed_master_loses_no_user(tmp_path: Path) -> None:
    """A master is killed while turns of all shards are written. All of them go on as soon as the cluster is up, those of
    the lost shard with its promoted replica. Every event is in the logs, and every channel is delivered again."""
    with redis_cluster(tmp_path) as cluster:
        async with redis_store(cluster.url) as store, redis_store(cluster.url) as other, listening(other) as received:
            users = users_of(cluster, 5)
            turns = [await running(store, stateless_turn("t", user)) for user in users]
            for user in users:
                await other.subscribe(turn_channel(user, "t"))
            stop = asyncio.Event()
            for master in cluster.masters():
                is_replicated(master)
            loop = asyncio.get_running_loop()
            longest: dict[str, float] = {}

            async def write(turn: TurnRecord) -> int:
                seq, last = 0, loop.time()
                while not stop.is_set():
                    (reply,) = await _append(store, piece(turn, seq + 1, seq + 1))
                    if reply.outcome == "stored":
                        seq = reply.end
                        longest[turn.user] = max(longest.get(turn.user, 0), loop.time() - last)
                        last = loop.time()
                    elif reply.outcome == "gap":
                        seq = reply.end
                    else:
                        assert reply.outcome == "unavailable", reply
                    await asyncio.sleep(0.01)
                return seq

            writers = [loop.create_task(write(turn)) for turn in turns]
            await asyncio.sleep(0.5)
            began = time.monotonic()
            await asyncio.to_thread(cluster.kill_master, slot_of(users[0]))
            await asyncio.to_thread(wait_until, cluster.is_ok)
            failover_s = time.monotonic() - began
            await asyncio.sleep(1)
            stop.set()
            ends = await asyncio.gather(*writers)
            waited_s = max(longest.values())
            logging.getLogger(__name__).info("failover %.1f s, longest wait of an append %.1f s", failover_s, waited_s)
            assert waited_s < failover_s + 2
            for user, end in zip(users, ends, strict=True):
                log = await store.log(user, "t", 0)
                assert (log[0].first, log[-1].last) == (1, end)
                assert all(one.last + 1 == two.first for one, two in pairwise(log))

            async def reconnected() -> bool:
                return received.reconnects >= 1

            await eventually(reconnected)
            for user in users:
                await store.publish(turn_channel(user, "t"), b"last")
            missing = {turn_channel(user, "t") for user in users}
            async with asyncio.timeout(5):
                while missing:
                    channel, payload = await received.next()
                    if payload == b"last":
                        missing.discard(channel)
            for turn in turns:
                assert await store.request_cancel(turn.user, turn.turn, b"stop")
            await store.ping()


@pytest.mark.parametrize(("kind", "name"), [("hostname", "localhost"), ("unknown-endpoint", ""), ("hostname", "")])
async def test_how_the_nodes_announce_themselves(cluster: RedisCluster, kind: str, name: str) -> None:
    """Nodes may announce names, or only ports, which are then those of the URL's host. If Redis prefers names and has none,
    the error says what to set."""
    if cluster.nodes[0].version < (7, 0):
        pytest.skip("this Redis announces addresses only")
    try:
        for node in cluster.nodes:
            node.execute("CONFIG", "SET", "cluster-announce-hostname", name)
            node.execute("CONFIG", "SET", "cluster-preferred-endpoint-type", kind)
        wait_until(
            lambda: all(_announced(node) == {None if kind != "hostname" else name or "?"} for node in cluster.nodes)
        )
        if kind == "hostname" and not name:
            assert "Set cluster-announce-hostname" in await refusal(cluster.url)
            return
        async with redis_store(cluster.url) as store, listening(store) as received:
            assert {node.host for node in store._client.known_masters} == {"127.0.0.1"}
            for user in users_of(cluster, 1):
                turn = await running(store, stateless_turn("t", user))
                await store.subscribe(turn_channel(user, "t"))
                await store.append([piece(turn, 1, 3)])
                assert (await received.next())[0] == turn_channel(user, "t")
    finally:
        for node in cluster.nodes:
            node.execute("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")
            node.execute("CONFIG", "SET", "cluster-announce-hostname", "")


def _announced(node: RedisProcess) -> set[str | None]:
    """Return the hosts of all masters, as this node tells them."""
    return {None if host is None else host.decode() for _, _, (host, *_), *_ in node.execute("CLUSTER", "SLOTS")}


async def test_the_other_masters_serve_their_users(tmp_path: Path) -> None:
    """A master is dead for good, and Redis serves the rest: turns of the other users are accepted, written and ended,
    whichever master has their entry in the index of leases. `ping` says that a part fails."""
    with redis_cluster(tmp_path, replicas=0) as cluster:
        for node in cluster.nodes:
            node.execute("CONFIG", "SET", "cluster-require-full-coverage", "no")
        async with redis_store(cluster.url) as store:
            lost, *others = users_of(cluster, 1)
            turn = await running(store, stateless_turn("t", lost))
            cluster.kill_master(slot_of(lost))
            turns = [await running(store, stateless_turn(f"t{n}", user)) for user in others for n in range(4)]
            with within(2):
                outcomes = await store.append([piece(one, 1, 3) for one in [turn, *turns]])
            assert outcomes == [Appended("unavailable", 0), *[Appended("stored", 3)] * 8]
            await store.end(ending(turns[0], events=piece(turns[0], 4, 9)))
            with pytest.raises(PartFailed):
                await store.ping()
            with pytest.raises(StoreError):
                await store.expired_leases()


async def test_a_cluster_with_tls_and_a_password(tmp_path: Path) -> None:
    """The topology, calls and pub/sub use TLS and the password of the URL."""
    if not speaks_tls():
        pytest.skip("this Redis was built without TLS")
    with ExitStack() as stack:
        server = RedisProcess(
            tmp_path / "redis", password="right", tls=True, cluster=True, options=("--tls-cluster", "yes")
        )
        stack.callback(server.kill)
        server.start()
        url = f"rediss+cluster://:right@127.0.0.1:{server.port}?ssl_ca_certs={server.authority}"
        async with redis_store(url) as store, listening(store) as received:
            turn = await running(store, stateless_turn())
            await store.subscribe(turn_channel("ann", "t1"))
            await store.append([piece(turn, 1, 1)])
            assert (await received.next())[0] == turn_channel("ann", "t1")
        assert "credentials" in await refusal(url.replace("right", "s3cret"))
        assert "certificate" in await refusal(url.replace("right", "s3cret").partition("?")[0])


async def test_an_ending_waits_for_the_replica_of_its_master(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With `wait_replicas`, an ending waits for a replica of the master that has the user, and a missing one is logged."""
    with redis_cluster(tmp_path) as cluster:
        async with redis_store(cluster.url, wait_replicas=1, wait_ms=1500) as store:
            user = users_of(cluster, 1)[0]
            first, second = [await running(store, stateless_turn(name, user)) for name in ("one", "two")]
            await store.end(ending(first))
            assert caplog.messages == []
            master = cluster.master_of(slot_of(user))
            replicas = [
                node for node in cluster.nodes if node.execute("ROLE")[:3] == [b"slave", b"127.0.0.1", master.port]
            ]
            assert len(replicas) == 1
            replicas[0].freeze()
            with within(5):
                await store.end(ending(second))
            assert "stored on too few replicas" in caplog.text
            replicas[0].thaw()
