"""Paces in Redis: keys that Redis itself forgets, in the user's slot, and calls of a bounded size."""

from __future__ import annotations

from store.redis.keys import user_prefix
from store.redis.rates import USERS_PER_CALL
from tests.redis_process import RedisProcess, redis_server, redis_store

__all__ = ["redis_server"]


async def test_a_pace_is_kept_for_as_long_as_it_is_ahead(redis_server: RedisProcess) -> None:
    """And what is due already leaves no key."""
    async with redis_store(redis_server.url) as store:
        await store.count_requests([("ann", 3, 0), ("bob", 3, 60_000_000)], 10_000_000)
        assert 20_000 < redis_server.ask("PTTL", user_prefix("ann") + b"requests") <= 30_000
        assert redis_server.ask("EXISTS", user_prefix("bob") + b"requests") == 0


async def test_many_are_counted(redis_server: RedisProcess) -> None:
    """More than one call's worth, each with its own answer."""
    taken = [(f"user{number}", 1 + number % 3, 0) for number in range(2 * USERS_PER_CALL + 1)]
    async with redis_store(redis_server.url) as store:
        ahead_us = await store.count_requests(taken, 60_000_000)
    assert [round(ahead / 60_000_000) for ahead in ahead_us] == [count for _, count, _ in taken]
