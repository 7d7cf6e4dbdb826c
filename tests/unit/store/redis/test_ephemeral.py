"""Ephemeral values, rate limits and permits in Redis: Redis expires them, and calls have a bounded size."""

from __future__ import annotations

import pytest

from store.errors import StoreError
from store.redis.ephemeral import CALLS_PER_ROUND_TRIP
from store.redis.keys import user_prefix
from tests.redis_process import RedisProcess, cuttable_proxy, redis_server, redis_store

__all__ = ["redis_server"]


async def test_redis_expires_values(redis_server: RedisProcess) -> None:
    """Redis itself expires ephemeral values."""
    async with redis_store(redis_server.url) as store:
        await store.put_ephemeral("n1", b"x", 60_000)
        assert 0 < redis_server.execute("PTTL", b"turnwire:note:n1") <= 60_000


async def test_a_pop_whose_reply_was_cut_is_not_repeated(redis_server: RedisProcess) -> None:
    """The first attempt may have popped the value, so the caller gets an error, not the None of a second attempt."""
    async with cuttable_proxy(redis_server) as proxy, redis_store(proxy.url) as store:
        await store.put_ephemeral("ticket", b"ann", 60_000)
        proxy.cut(1)
        with pytest.raises(StoreError):
            await store.pop_ephemeral("ticket")


async def test_only_future_due_times_are_stored(redis_server: RedisProcess) -> None:
    """A due time in the future has a key that expires then; one in the past has no key."""
    async with redis_store(redis_server.url) as store:
        await store.count_requests([("ann", 3, 0), ("bob", 3, 60_000_000)], 10_000_000)
        assert 20_000 < redis_server.execute("PTTL", user_prefix("ann") + b"requests") <= 30_000
        assert redis_server.execute("EXISTS", user_prefix("bob") + b"requests") == 0


async def test_many_users_are_counted(redis_server: RedisProcess) -> None:
    """Counts that need several round trips return one result each, in order."""
    counts = [(f"user{number}", 1 + number % 3, 0) for number in range(2 * CALLS_PER_ROUND_TRIP + 1)]
    async with redis_store(redis_server.url) as store:
        ahead_us = await store.count_requests(counts, 60_000_000)
    assert [round(ahead / 60_000_000) for ahead in ahead_us] == [count for _, count, _ in counts]


async def test_redis_expires_permits(redis_server: RedisProcess) -> None:
    """Permits expire if their instance dies; another holder's shorter time doesn't shorten the key's expiry."""
    async with redis_store(redis_server.url) as store:
        assert await store.acquire_permits("one", [("user:ann", 5)], 60_000) == [True]
        assert await store.acquire_permits("two", [("user:ann", 5)], 1000) == [True]
        await store.renew_permits([("user:ann", "two")], 1000)
        assert 50_000 < redis_server.execute("PTTL", b"turnwire:places:user:ann") <= 60_000
        await store.release_permits([("user:ann", "one"), ("user:ann", "two")])
        assert redis_server.execute("EXISTS", b"turnwire:places:user:ann") == 0


async def test_many_permits_are_renewed_and_released(redis_server: RedisProcess) -> None:
    """Permits that need several round trips are all renewed and all released."""
    permits = [(f"address:{number}", "one") for number in range(2 * CALLS_PER_ROUND_TRIP + 1)]
    async with redis_store(redis_server.url) as store:
        await store.renew_permits(permits, 60_000)
        assert not any(await store.acquire_permits("two", [(key, 1) for key, _ in permits], 60_000))
        await store.release_permits(permits)
        assert all(await store.acquire_permits("two", [(key, 1) for key, _ in permits], 60_000))
