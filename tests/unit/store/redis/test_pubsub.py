"""One connection receives all messages of a process. A lost connection is replaced, and the loss is reported.

Two tests are about the presence of a turn's clients (law 8), which this part of the store also keeps.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from store.errors import StoreError
from store.redis import feed as pubsub_module
from store.redis.node import connect
from tests.in_time import checks_time_limit, within
from tests.redis_process import RedisProcess, cuttable_proxy, redis_process, redis_server, redis_store
from tests.stored import SHORT_MS, eventually, listening, running

__all__ = ["redis_server"]


async def test_a_lost_connection_is_replaced_and_reported(redis_server: RedisProcess) -> None:
    """Law 7: after a loss, `on_reconnect` is called when all channels are subscribed again."""
    async with cuttable_proxy(redis_server) as proxy, redis_store(proxy.url) as store, listening(store) as received:
        channels = [f"channel{n}" for n in range(1200)]
        await asyncio.gather(*map(store.subscribe, channels))
        for losses in (1, 2):
            proxy.drop_all()

            async def reconnected(losses: int = losses) -> bool:
                return received.reconnects == losses

            await eventually(reconnected)
            for channel in (channels[0], channels[-1]):
                await store.publish(channel, b"again")
                assert await received.next() == (channel, b"again")


async def test_a_channel_dropped_while_the_connection_opens_delays_nothing(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 7: the connection is complete without that channel, so the messages of the others arrive."""
    opening, opens = asyncio.Event(), asyncio.Event()
    opens.set()

    async def held(connection: Any) -> None:
        opening.set()
        await opens.wait()
        await connect(connection)

    monkeypatch.setattr(pubsub_module, "connect", held)
    async with cuttable_proxy(redis_server) as proxy, redis_store(proxy.url) as store, listening(store) as received:
        for channel in ("kept", "dropped"):
            await store.subscribe(channel)
        opening.clear()
        opens.clear()
        proxy.drop_all()
        await asyncio.wait_for(opening.wait(), 10)
        await store.unsubscribe("dropped")
        opens.set()

        async def reconnected() -> bool:
            return received.reconnects == 1

        await eventually(reconnected)
        await store.publish("kept", b"again")
        assert await received.next() == ("kept", b"again")


@checks_time_limit
async def test_subscriptions_outlive_a_restart_of_redis(redis_server: RedisProcess) -> None:
    """While Redis is stopped, `subscribe` fails in time; after the restart every channel is delivered."""
    async with redis_store(redis_server.url) as store, listening(store) as received:
        await store.subscribe("a")
        redis_server.stop()
        with within(2.7), pytest.raises(StoreError, match="can't be reached"):
            await store.subscribe("b")
        redis_server.start()

        async def reconnected() -> bool:
            return received.reconnects == 1

        await eventually(reconnected)
        await store.subscribe("b")
        await store.publish("a", b"1")
        await store.publish("b", b"2")
        assert [await received.next(), await received.next()] == [("a", b"1"), ("b", b"2")]


async def test_an_idle_or_frozen_connection_is_kept(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silence shorter than the limit isn't treated as a loss, whether the connection is idle or Redis is frozen."""
    monkeypatch.setattr(pubsub_module, "PING_INTERVAL_S", 0.05)
    async with redis_store(redis_server.url) as store, listening(store) as received:
        await store.subscribe("a")
        redis_server.freeze()
        await asyncio.sleep(0.3)
        redis_server.thaw()
        await asyncio.sleep(0.3)
        await store.publish("a", b"1")
        assert await received.next() == ("a", b"1")
        assert received.reconnects == 0


async def test_a_silent_connection_is_replaced(redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which pings aren't answered is replaced."""
    monkeypatch.setattr(pubsub_module, "PING_INTERVAL_S", 0.05)
    monkeypatch.setattr(pubsub_module, "READ_TIMEOUT_S", 0.2)
    async with redis_store(redis_server.url) as store, listening(store) as received:
        await store.subscribe("a")
        redis_server.freeze()
        await asyncio.sleep(0.5)
        redis_server.thaw()

        async def reconnected() -> bool:
            return received.reconnects >= 1

        await eventually(reconnected)
        await store.publish("a", b"1")
        assert await received.next() == ("a", b"1")


@pytest.mark.parametrize("is_linked", [True, False], ids=["follows the new primary", "alone"])
@checks_time_limit
async def test_a_demoted_server_is_left(redis_server: RedisProcess, tmp_path: Path, is_linked: bool) -> None:
    """When the server becomes a replica, it closes no connection. The subscriber and the commands still leave it within
    4 s, for the server that the address leads to, even if channels are subscribed and unsubscribed all the time."""
    with redis_process(tmp_path / "new", replica_of=redis_server.port) as new:
        async with cuttable_proxy(redis_server) as proxy, redis_store(proxy.url) as store, listening(store) as received:
            await store.subscribe("a")
            await asyncio.gather(*(store.ping() for _ in range(5)))
            new.execute("REPLICAOF", "NO", "ONE")
            redis_server.execute("REPLICAOF", "127.0.0.1", new.port if is_linked else 1)
            proxy.lead_to(new.port)
            with within(4):
                while proxy.connections_to(redis_server.port):
                    await store.subscribe("b")
                    await store.unsubscribe("b")
                    await asyncio.sleep(0.1)

            async def reconnected() -> bool:
                return received.reconnects == 1

            await eventually(reconnected)
            await store.publish("a", b"1")
            assert await received.next() == ("a", b"1")
            await asyncio.sleep(2)
            assert received.reconnects == 1


async def test_a_replica_is_left_once_the_address_leads_to_the_primary(
    redis_server: RedisProcess, tmp_path: Path
) -> None:
    """If the address changes late, a new connection leads to the demoted server again. Channels can be subscribed on it,
    and it is replaced until it leads to the primary."""
    with redis_process(tmp_path / "new", replica_of=redis_server.port) as new:
        async with cuttable_proxy(redis_server) as proxy, redis_store(proxy.url) as store, listening(store) as received:
            await store.subscribe("a")
            new.execute("REPLICAOF", "NO", "ONE")
            redis_server.execute("REPLICAOF", "127.0.0.1", new.port)
            proxy.drop_all()
            await asyncio.sleep(3)
            await store.subscribe("b")
            proxy.lead_to(new.port)

            async def moved() -> bool:
                return proxy.connections_to(redis_server.port) == 0 and proxy.connections_to(new.port) > 0

            await eventually(moved)
            await store.subscribe("c")
            for name in ("a", "b", "c"):
                await store.publish(name, b"x")
                assert await received.next() == (name, b"x")


async def test_a_cancelled_subscribe_affects_no_other_channel(redis_server: RedisProcess) -> None:
    """Cancelling one `subscribe` neither cuts the connection nor ends another subscription."""
    async with redis_store(redis_server.url) as store, listening(store) as received:
        await store.subscribe("a")
        loop = asyncio.get_running_loop()
        for n in range(50):
            task = loop.create_task(store.subscribe("b" if n % 2 else "a"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        await store.subscribe("c")
        for name in ("a", "b", "c"):
            await store.publish(name, b"x")
        assert [await received.next(), await received.next()] == [("a", b"x"), ("c", b"x")]
        assert received.reconnects == 0


async def test_subscribing_again_at_once_delivers(redis_server: RedisProcess) -> None:
    """After `subscribe`, `unsubscribe` and `subscribe` in a row, the channel is delivered when the last returns."""
    async with redis_store(redis_server.url) as store, listening(store) as received:
        for n in range(100):
            first = asyncio.get_running_loop().create_task(store.subscribe("a"))
            await asyncio.sleep(0)
            await store.unsubscribe("a")
            await store.subscribe("a")
            await first
            await store.publish("a", str(n).encode())
            assert await received.next() == ("a", str(n).encode())
            await store.unsubscribe("a")
            await store.unsubscribe("a")


async def test_all_channels_share_one_connection(redis_server: RedisProcess) -> None:
    """However many channels are subscribed, Redis has one subscriber."""
    async with redis_store(redis_server.url) as store, listening(store):
        await asyncio.gather(*(store.subscribe(f"channel{n}") for n in range(100)))
        listed: bytes = redis_server.execute("CLIENT", "LIST", "TYPE", "pubsub")
        assert len(listed.splitlines()) == 1


async def test_a_presence_expires(redis_server: RedisProcess) -> None:
    """Law 8: an expired presence leaves no key in Redis."""
    async with redis_store(redis_server.url) as store:
        await store.renew_presence("two", [("ann", "t1")], SHORT_MS)

        async def gone() -> bool:
            return redis_server.keys() == []

        await eventually(gone)


async def test_a_lost_turn_is_assumed_to_have_presence(redis_server: RedisProcess) -> None:
    """Law 8: if Redis lost the turn, the presence was lost too, so another presence is assumed."""
    async with redis_store(redis_server.url) as store:
        await running(store)
        assert not await store.has_other_presence("ann", "t1", "one")
        redis_server.execute("FLUSHALL")
        assert await store.has_other_presence("ann", "t1", "one")
