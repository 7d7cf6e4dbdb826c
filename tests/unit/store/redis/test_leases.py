"""The index of leases repairs itself, and a retried claim counts once."""

from __future__ import annotations

import pytest

from store.errors import StoreError
from store.redis.keys import BUCKETS, bucket_key, bucket_of, encode_turn_ref
from tests.redis_process import RedisProcess, cuttable_proxy, redis_server, redis_store
from tests.stored import LONG_MS, SHORT_MS, ending, eventually, running, stateless_turn

__all__ = ["redis_server"]


def delete_index(server: RedisProcess) -> None:
    """Delete every entry of the index."""
    for number in range(BUCKETS):
        server.execute("DEL", bucket_key(number))


def index_size(server: RedisProcess) -> int:
    """Return the number of entries in the index."""
    return sum(server.execute("ZCARD", bucket_key(number)) for number in range(BUCKETS))


async def test_a_claim_whose_reply_was_cut_succeeds_once(redis_server: RedisProcess) -> None:
    """Law 9: a retried claim succeeds with the same epoch; another claim fails."""
    async with cuttable_proxy(redis_server) as proxy, redis_store(proxy.url) as store:
        turn = await running(store)
        await store.release("ann", "t1", turn.epoch)
        proxy.cut(2)
        claimed = await store.claim("ann", "t1", "two", turn.epoch + 7, LONG_MS)
        assert claimed is not None
        assert (claimed.owner, claimed.epoch) == ("two", turn.epoch + 7)
        again = await store.claim("ann", "t1", "two", turn.epoch + 7, LONG_MS, force=True)
        assert again == claimed
        assert await store.claim("ann", "t1", "three", turn.epoch + 7, LONG_MS) is None
        assert await store.claim("ann", "t1", "two", turn.epoch + 8, LONG_MS) is None


async def test_a_renewal_restores_a_lost_index_entry(redis_server: RedisProcess) -> None:
    """Law 9: the owner's next renewal writes the lease to the index again."""
    async with redis_store(redis_server.url) as store:
        turn = await running(store)
        delete_index(redis_server)
        await store.renew("one", [("ann", "t1", turn.epoch)], SHORT_MS)
        assert await eventually(store.expired_leases) == [("ann", "t1")]


async def test_reading_a_turn_restores_a_lost_index_entry(redis_server: RedisProcess) -> None:
    """Law 9: a turn whose lease has expired is written to the index when it is read."""
    async with redis_store(redis_server.url) as store:
        turn = await running(store)
        await store.release("ann", "t1", turn.epoch)
        delete_index(redis_server)
        assert await store.expired_leases() == []
        await store.turn("ann", "t1")
        assert await store.expired_leases() == [("ann", "t1")]


async def test_a_wrong_index_entry_is_corrected(redis_server: RedisProcess) -> None:
    """An entry of a turn that is held, has ended or doesn't exist is corrected or removed."""
    async with redis_store(redis_server.url) as store:
        await running(store, stateless_turn("held"))
        ended = await running(store, stateless_turn("ended"))
        await store.end(ending(ended))
        for turn in ("held", "ended", "unknown"):
            redis_server.execute("ZADD", bucket_of("ann", turn), 1, encode_turn_ref("ann", turn))
        assert index_size(redis_server) == 3
        assert await store.expired_leases() == []
        assert index_size(redis_server) == 1
        score = float(redis_server.execute("ZSCORE", bucket_of("ann", "held"), encode_turn_ref("ann", "held")))
        seconds, _ = redis_server.execute("TIME")
        assert 0 < score / 1000 - int(seconds) <= LONG_MS / 1000 + 1


async def test_a_repeated_start_does_not_hide_an_expired_lease(redis_server: RedisProcess) -> None:
    """Law 9: repeated starts of a turn without an owner don't make it look held."""
    async with redis_store(redis_server.url) as store:
        turn = await running(store)
        await store.release("ann", "t1", turn.epoch)
        await running(store, stateless_turn(message="another"))
        assert await store.expired_leases() == [("ann", "t1")]


async def test_expired_leases_are_not_searched_at_a_replica(redis_server: RedisProcess) -> None:
    """Law 9: at a replica, during a failover, the search for expired leases fails, not only the claim."""
    async with redis_store(redis_server.url) as store:
        await running(store, stateless_turn(lease_ms=1))
        redis_server.execute("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(StoreError, match="read-only"):
            await store.expired_leases()
        redis_server.execute("REPLICAOF", "NO", "ONE")
        assert await store.expired_leases() == [("ann", "t1")]
