"""Places in Redis: keys that Redis itself forgets, and calls of a bounded size."""

from __future__ import annotations

from store.redis.permits import KEYS_PER_CALL
from tests.redis_process import RedisProcess, redis_server, redis_store

__all__ = ["redis_server"]


async def test_places_have_redis_own_expiry(redis_server: RedisProcess) -> None:
    """Of an instance that dies nothing stays; a shorter time of another doesn't shorten a longer one."""
    async with redis_store(redis_server.url) as store:
        assert await store.acquire_permits("one", [("user:ann", 5)], 60_000) == [True]
        assert await store.acquire_permits("two", [("user:ann", 5)], 1000) == [True]
        await store.renew_permits([("user:ann", "two")], 1000)
        assert 50_000 < redis_server.ask("PTTL", b"turnwire:places:user:ann") <= 60_000
        await store.release_permits([("user:ann", "one"), ("user:ann", "two")])
        assert redis_server.ask("EXISTS", b"turnwire:places:user:ann") == 0


async def test_many_are_kept_and_given_back(redis_server: RedisProcess) -> None:
    """More than one call's worth."""
    held = [(f"address:{number}", "one") for number in range(2 * KEYS_PER_CALL + 1)]
    async with redis_store(redis_server.url) as store:
        await store.renew_permits(held, 60_000)
        assert not any(await store.acquire_permits("two", [(key, 1) for key, _ in held], 60_000))
        await store.release_permits(held)
        assert all(await store.acquire_permits("two", [(key, 1) for key, _ in held], 60_000))
