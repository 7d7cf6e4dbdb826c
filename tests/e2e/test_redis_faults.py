"""Instances whose Redis fails, in one way for each test; one test only counts connections to Redis. `tests/world.py`
checks the laws."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.turns.log_entries import decode_events
from tests.client import Client, RequestFailed, client
from tests.demo import expected
from tests.in_time import checks_time_limit, within
from tests.instances import LEASE_S
from tests.raw_socket import OPENING
from tests.redis_process import RedisProcess, redis_process, redis_store
from tests.redis_sentinel import sentinel_process
from tests.replication import is_replicated
from tests.upstream import chat
from tests.world import World, client_of, random_delay, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LONG = {"rate": 100, "tokens": 400}


async def test_law_4_a_short_freeze_of_redis_isnt_noticed(tmp_path: Path) -> None:
    """Law 4: while Redis is frozen for 3 s, less than a lease, attached clients get all events and no `durability`
    event, and the log is complete afterwards."""
    async with world(tmp_path, TURNWIRE_LEASE_S="10") as w, client_of(w, 0) as who:
        await w.start(who, "t", rate=100, tokens=600)
        await asyncio.sleep(0.5)
        w.redis.freeze()
        before = who.now.turns["t"].seq if who.now else 0
        await asyncio.sleep(2.5)
        after = who.now.turns["t"].seq if who.now else 0
        assert after > before + 120
        await asyncio.sleep(0.5)
        w.redis.thaw()
        await w.check(who, "t")
        assert who.connects == 1
        assert who.now is not None
        assert not [frame for frame in who.now.frames if frame["type"] == "durability"]


@pytest.mark.parametrize(("lease_s", "away_s"), [(LEASE_S, 4 * LEASE_S), (10, 30)])
async def test_law_4_a_long_freeze_of_redis_degrades_durability(tmp_path: Path, lease_s: float, away_s: float) -> None:
    """Law 4: while Redis is frozen for several leases, clients get `degraded`, the stream continues, and the log is
    complete afterwards."""
    rate = 600 / away_s
    async with world(tmp_path, TURNWIRE_LEASE_S=str(lease_s)) as w, client_of(w, 0) as who:
        await w.start(who, "t", rate=rate, tokens=800)
        await asyncio.sleep(0.5)
        w.redis.freeze()
        await asyncio.sleep(away_s)
        now = who.now
        assert now is not None
        await now.until(lambda: any(frame["type"] == "durability" for frame in now.frames))
        assert [frame["state"] for frame in now.frames if frame["type"] == "durability"] == ["degraded"]
        seen = now.turns["t"].seq
        assert seen > 400
        w.redis.thaw()
        await w.check(who, "t")
        assert who.connects == 1
        states = [frame["state"] for frame in now.frames if frame["type"] == "durability"]
        assert states == ["degraded", "ok"]
        async with client(w.urls()[1]) as c:
            await c.request("turn.attach", turn="t")
            await c.ending("t")
            assert c.turns["t"].text() == who.text("t")


async def test_live_turns_continue_while_redis_is_read_only(tmp_path: Path) -> None:
    """Redis is a replica for a while, as in a failover whose promotion is late: new turns are refused, and live turns
    continue. No other instance takes them over, no provider is asked twice, and the logs are complete afterwards."""
    async with world(tmp_path) as w, client_of(w, 0) as who:
        words = [f"w{n} " for n in range(500)]
        w.upstream.play(chat(*words).replace(rate=100))
        await w.start(who, "demo", rate=100, tokens=500)
        await who.start("real", input="x", model="openai/m")
        w.redis.execute("REPLICAOF", "127.0.0.1", 1)
        async with client(w.urls()[1]) as c:
            with pytest.raises(RequestFailed) as refused:
                await c.request("turn.start", turn="new", input="x")
            assert refused.value.code == "store_unavailable"
        await asyncio.sleep(2 * LEASE_S)
        w.redis.execute("REPLICAOF", "NO", "ONE")
        await w.check(who, "demo")
        assert (await who.ending("real"))["type"] == "turn.completed"
        assert (who.text("real"), who.connects, len(w.upstream.requests)) == ("".join(words), 1, 1)
        async with client(w.urls()[1]) as c:
            for turn in ("demo", "real"):
                await c.request("turn.attach", turn=turn)
                await c.ending(turn)
                assert c.turns[turn].text() == who.text(turn)


async def test_instances_follow_a_failover_by_sentinel(tmp_path: Path) -> None:
    """Sentinel demotes the primary. The instances' address of Redis leads to the new primary only some time later. From then
    on, a turn can be followed and stopped through the other instance, and no connection stays at the demoted server."""
    async with world(tmp_path) as w:
        with (
            redis_process(tmp_path / "replica", replica_of=w.redis.port) as replica,
            sentinel_process(tmp_path / "sentinel", w.redis) as sentinel,
        ):
            async with client(w.urls()[1]) as there:
                conversation = (await there.request("conversation.create"))["id"]
                await there.request("conversation.attach", conversation=conversation)
                assert is_replicated(w.redis), "the replica has the conversation"
                assert sentinel.sentinel_failover("turnwire")
                while sentinel.sentinel_get_master_addr_by_name("turnwire") != ("127.0.0.1", replica.port):
                    await asyncio.sleep(0.1)
                while not _is_demoted(w.redis):
                    await asyncio.sleep(0.1)
                await asyncio.sleep(1.5)
                w.redis_proxy.lead_to(replica.port)
                with within(10):
                    while w.redis_proxy.connections_to(w.redis.port):
                        await asyncio.sleep(0.1)
                w.redis.kill()  # from here on, nothing may depend on the demoted server
                async with client(w.urls()[0]) as here:
                    await _start_again(here, "t", conversation)
                    await there.until_seq("t", 20)
                    with within(1):
                        assert (await there.request("turn.cancel", turn="t"))["turns"] == {"t": "cancelled"}
                    assert (await here.ending("t"))["type"] == "turn.cancelled"


def _is_demoted(redis: RedisProcess) -> bool:
    """Return whether Redis is a replica. While it becomes one, it closes its connections: then return False."""
    try:
        return bool(redis.execute("ROLE")[0] == b"slave")
    except RedisConnectionError:
        return False


async def _start_again(here: Client, turn: str, conversation: str) -> None:
    """Start a long turn, as soon as the store accepts one."""
    async with asyncio.timeout(20):
        while True:
            try:
                await here.request("turn.start", turn=turn, conversation=conversation, input="x", params={"demo": LONG})
            except RequestFailed as failed:
                assert failed.code == "store_unavailable"
                await asyncio.sleep(0.1)
            else:
                return


async def test_live_turns_are_restored_in_an_empty_redis(tmp_path: Path) -> None:
    """After Redis loses its data, the owner creates its live turns again. An attach to a turn that had ended before
    fails on a new instance."""
    async with world(tmp_path) as w, client_of(w, 0) as who:
        await w.start(who, "before", rate=0, tokens=20)
        await w.check(who, "before")
        await w.start(who, "t", rate=100, tokens=500)
        await asyncio.sleep(0.5)
        w.record_fault()
        w.redis.restart(with_data=False)
        ended = await who.ending("t")
        assert ended["type"] == "turn.completed"
        assert who.text("t") == expected("About t", {"rate": 100, "tokens": 500})
        async with client(w.urls()[1]) as c:
            await c.request("turn.attach", turn="t")
            await c.ending("t")
            assert c.turns["t"].text() == who.text("t")
        async with client((await w.add()).ws_url) as c:
            gone = await c.request("turn.attach", turn="before")
            assert gone["turns"]["before"]["error"]["code"] in {"not_found", "gone"}


async def test_law_7_a_turn_lost_with_its_owner_is_gone(tmp_path: Path) -> None:
    """Law 7: if the owner is killed and Redis loses its data, attached clients are detached with `gone`, and a new
    attach request is answered with an error."""
    async with world(tmp_path) as w, client(w.urls()[1]) as there:
        async with client(w.urls()[0]) as here:
            await here.request("turn.start", turn="t", input="x", params={"demo": LONG})
            await there.request("turn.attach", turn="t")
            await there.until_seq("t", 20)
        w.kill(0)
        w.lose_data()
        began = time.monotonic()
        await there.until(lambda: "t" in there.detached)
        assert there.detached == {"t": "gone"}
        assert time.monotonic() - began < 10
        answer = await there.request("turn.attach", turn="t")
        assert answer["turns"]["t"]["error"]["code"] == "not_found"


async def test_lost_replies_of_redis_duplicate_nothing(tmp_path: Path) -> None:
    """Redis executes the commands but its replies are lost: no event is logged twice or missing, and no provider is
    asked twice."""
    pick = random.Random(21)
    async with world(tmp_path) as w, client_of(w, seed=21) as who, asyncio.TaskGroup() as tasks:
        w.upstream.play(*[chat(*[f"w{n} " for n in range(100)]).replace(rate=100) for _ in range(4)])
        over = asyncio.Event()

        async def cut() -> None:
            while not over.is_set():
                w.redis_proxy.cut(pass_bytes=pick.choice([0, 0, 1, 20, 200]))
                await random_delay(pick, 0, 0.15)

        tasks.create_task(cut())
        for n in range(4):
            await w.start(who, f"demo{n}", rate=100, tokens=150)
            await who.start(f"real{n}", input="x", model="openai/m")
        for n in range(4):
            await w.check(who, f"demo{n}")
            assert (await who.ending(f"real{n}"))["type"] == "turn.completed"
            assert who.text(f"real{n}") == "".join(f"w{word} " for word in range(100))
        over.set()
        assert len(w.upstream.requests) == 4
        async with redis_store(w.redis.url) as store:
            for turn, view in who.views.items():
                entries = await store.log("local", turn, 0)
                logged = [event.seq for entry in entries for event in decode_events(entry.payload)]
                assert logged == list(range(1, view.seq + 1)), turn


@checks_time_limit
async def test_few_connections_to_redis_with_2000_sockets(tmp_path: Path) -> None:
    """An instance with 2,000 sockets and sixty turns has at most 20 connections to Redis."""
    with ExitStack() as sockets:
        async with world(tmp_path, 1) as w, client(w.urls()[0]) as c:
            await _check_connections(w, c, sockets)


async def _check_connections(w: World, c: Client, sockets: ExitStack) -> None:
    parts = urlsplit(w.instances[0].url)
    opening = OPENING.format(host=parts.netloc, more="").encode()

    def open_sockets() -> None:
        for _ in range(2000):
            one = sockets.enter_context(socket.create_connection((parts.hostname, parts.port), timeout=5))
            one.sendall(opening)
            assert one.recv(4096).startswith(b"HTTP/1.1 101")

    await asyncio.to_thread(open_sockets)
    conversations = [await c.request("conversation.create") for _ in range(20)]
    for conversation in conversations:
        await c.request("conversation.attach", conversation=conversation["id"])
    for n in range(60):
        await c.request("turn.start", turn=f"t{n}", input="x", params={"demo": {"rate": 100, "tokens": 50}})
    for n in range(60):
        await c.ending(f"t{n}")
    async with redis.asyncio.Redis.from_url(w.redis.url) as admin:
        assert len(await admin.client_list()) - 1 <= 20


async def test_a_full_redis_refuses_new_turns_and_lets_running_ones_finish(tmp_path: Path) -> None:
    """While Redis is full, a new turn is refused with `store_unavailable`, and a live one continues. When Redis has
    memory again, new turns are accepted."""
    async with world(tmp_path, 1) as w, client(w.urls()[0]) as c:
        await c.request("turn.start", turn="runs", input="x", params={"demo": {"rate": 50, "tokens": 300}})
        await c.until_seq("runs", 10)
        async with redis.asyncio.Redis.from_url(w.redis.url) as admin:
            await admin.config_set("maxmemory-policy", "noeviction")
            await admin.config_set("maxmemory", "1mb")
            with pytest.raises(RequestFailed) as refused:
                await c.request("turn.start", turn="new", input="x")
            assert (refused.value.code, refused.value.error["retryable"]) == ("store_unavailable", True)
            seen = c.turns["runs"].seq
            await c.until_seq("runs", seen + 50)
            await admin.config_set("maxmemory", "0")
        assert (await c.ending("runs"))["type"] == "turn.completed"
        assert (await c.request("turn.start", turn="new", input="x"))["status"] == "running"
        await c.request("turn.cancel", turn="new")


async def test_redis_restarted_with_its_data(tmp_path: Path) -> None:
    """Redis is killed and restarted with its file: entries that the file lacks are written again, and the text is
    complete."""
    async with world(tmp_path, appendonly=True) as w, client_of(w, 0) as who:
        for n in range(5):
            await w.start(who, f"t{n}", rate=100, tokens=300)
        await asyncio.sleep(1.5)
        w.record_fault()
        w.redis.restart(with_data=True)
        for n in range(5):
            await w.check(who, f"t{n}")
        assert who.connects == 1


async def test_redis_rolled_back(tmp_path: Path) -> None:
    """Redis is restarted with its data of 1.5 s ago: the owner finds and fills the gaps in the logs."""
    async with world(tmp_path) as w, client_of(w, 0) as who:
        for n in range(5):
            await w.start(who, f"t{n}", rate=100, tokens=500)
        await asyncio.sleep(1)
        async with redis.asyncio.Redis.from_url(w.redis.url) as admin:
            await admin.save()
        await asyncio.sleep(1.5)
        w.record_fault()
        w.redis.restart(with_data=True)
        for n in range(5):
            await w.check(who, f"t{n}")
            async with client(w.urls()[1]) as c:
                await c.request("turn.attach", turn=f"t{n}")
                await c.ending(f"t{n}")
                assert c.turns[f"t{n}"].text() == who.text(f"t{n}")
