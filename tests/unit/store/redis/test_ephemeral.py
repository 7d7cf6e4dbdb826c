"""Notes in Redis: Redis itself forgets them, and an unclear answer is never asked for twice."""

from __future__ import annotations

import pytest

from store.records import StoreError
from tests.redis_process import RedisProcess, cut_way, redis_server, redis_store

__all__ = ["redis_server"]


async def test_a_note_has_redis_own_expiry(redis_server: RedisProcess) -> None:
    """Nothing of ours has to sweep."""
    async with redis_store(redis_server.url) as store:
        await store.put_ephemeral("n1", b"x", 60_000)
        assert 0 < redis_server.ask("PTTL", b"turnwire:note:n1") <= 60_000


async def test_a_take_whose_answer_was_cut_is_not_repeated(redis_server: RedisProcess) -> None:
    """It may have been taken: the asker gets an error, and not the "none" of a second try."""
    async with cut_way(redis_server) as way, redis_store(way.url) as store:
        await store.put_ephemeral("ticket", b"ann", 60_000)
        way.cut(1)
        with pytest.raises(StoreError):
            await store.pop_ephemeral("ticket")
