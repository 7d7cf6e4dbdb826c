"""Rate limits in Redis: when each user's next request is due, by Redis' clock, kept while that is in the future."""

from __future__ import annotations

from store.redis.client import ClientHolder, ScriptCall
from store.redis.keys import user_prefix

USERS_PER_CALL = 256


class RedisRates(ClientHolder):
    """The rate limits of `Store`."""

    async def count_requests(self, taken: list[tuple[str, int, int]], interval_us: int) -> list[int]:
        """See `Store`."""
        calls: list[ScriptCall] = [
            ("requests", user_prefix(user) + b"requests", (count, ago_us, interval_us)) for user, count, ago_us in taken
        ]
        ahead_us: list[int] = []
        for start in range(0, len(calls), USERS_PER_CALL):
            ahead_us += await self._client.scripts(calls[start : start + USERS_PER_CALL], repeatable=False)
        return ahead_us
