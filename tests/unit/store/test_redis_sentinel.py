"""A store whose URL names Sentinels uses the master that they name, and follows a failover."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.api import turn_channel
from store.errors import StoreError
from store.records import Append
from store.redis.store import RedisStore
from tests.in_time import checks_time_limit, within
from tests.redis_cluster import SentinelSetup, sentinel_setup, wait_until
from tests.redis_process import redis_store
from tests.replication import is_replicated
from tests.stored import eventually, listening, piece, running, stateless_turn
from tests.unit.store.test_redis import refusal


@pytest.fixture(scope="module")
def shared_setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSetup]:
    """Sentinels and a master for tests that cause no failover."""
    with sentinel_setup(tmp_path_factory.mktemp("sentinel")) as setup:
        yield setup


async def test_a_store_is_opened_through_sentinels(shared_setup: SentinelSetup) -> None:
    """Calls and pub/sub reach the master. A Sentinel that is gone is skipped."""
    gone = shared_setup.url.replace("redis+sentinel://", "redis+sentinel://127.0.0.1:1,")
    async with redis_store(gone) as store, listening(store) as received:
        turn = await running(store, stateless_turn())
        await store.subscribe(turn_channel("ann", "t1"))
        await store.append([piece(turn, 1, 1)])
        assert (await received.next())[0] == turn_channel("ann", "t1")
        assert shared_setup.master.keys() != []


async def test_an_unknown_master_is_explained(shared_setup: SentinelSetup) -> None:
    """The error says that the name may be wrong, and has the addresses of the Sentinels and no password."""
    message = await refusal(shared_setup.url.replace("/turnwire/", "/other/").replace("://", "://:s3cret@"))
    assert "Check the name and the Sentinels" in message
    assert f"127.0.0.1:{shared_setup.ports[0]}" in message


async def test_the_reason_of_a_refusal_is_told(shared_setup: SentinelSetup) -> None:
    """A wrong password of the Sentinels, a server that isn't a Sentinel, and a Sentinel that is used as a Redis."""
    wrong = await refusal(shared_setup.url + "?sentinel_password=s3cret")
    assert "refuses the credentials" in wrong
    assert f"The Sentinels are at 127.0.0.1:{shared_setup.ports[0]}" in wrong
    redis = f"127.0.0.1:{shared_setup.master.port}"
    for addresses in (redis, f"{redis},127.0.0.1:{shared_setup.ports[0]}"):
        assert f"{redis} isn't a Sentinel. Name only" in await refusal(f"redis+sentinel://{addresses}/turnwire")
    sentinel = f"127.0.0.1:{shared_setup.ports[0]}"
    assert "The server is a Sentinel. Use redis+sentinel://" in await refusal(f"redis://{sentinel}")
    assert "isn't a node of a cluster" in await refusal(f"redis+cluster://{sentinel}")


@pytest.mark.parametrize("is_frozen", [False, True], ids=["killed", "frozen"])
@checks_time_limit
async def test_a_failover_is_followed(tmp_path: Path, is_frozen: bool) -> None:
    """When the master dies, calls fail until the replica is promoted, and then work: no event is lost, and the channels are
    delivered again, after the loss was reported."""
    with sentinel_setup(tmp_path) as setup:
        async with redis_store(setup.url) as store, listening(store) as received:
            turn = await running(store, stateless_turn())
            await store.subscribe(turn_channel("ann", "t1"))
            await store.append([piece(turn, 1, 3)])
            assert is_replicated(setup.master)
            began = time.monotonic()
            if is_frozen:
                setup.master.freeze()
            else:
                setup.master.kill()
            with within(12):
                while not await _is_stored(store, piece(turn, 4, 4)):
                    await asyncio.sleep(0.05)
            logging.getLogger(__name__).info("the append waited %.1f s", time.monotonic() - began)
            wait_until(lambda: setup.knows_master(setup.replica.port))
            assert [entry.last for entry in await store.log("ann", "t1", 0)] == [3, 4]

            async def reconnected() -> bool:
                return received.reconnects >= 1

            with within(5):
                await eventually(reconnected)
            await store.publish(turn_channel("ann", "t1"), b"again")
            async with asyncio.timeout(5):
                while await received.next() != (turn_channel("ann", "t1"), b"again"):
                    pass
            if is_frozen:
                setup.master.thaw()


async def _is_stored(store: RedisStore, append: Append) -> bool:
    try:
        (reply,) = await store.append([append])
    except StoreError:
        return False
    return reply.outcome == "stored"
