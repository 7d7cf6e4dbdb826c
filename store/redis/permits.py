"""Connection permits in Redis: a sorted set per key, with its holders by their time of expiry, by Redis' clock."""

from __future__ import annotations

from collections import defaultdict

from store.redis.client import ClientHolder, ScriptCall
from store.redis.commands import Argument
from store.redis.keys import raw

KEYS_PER_CALL = 256


class RedisPermits(ClientHolder):
    """The connection permits of `Store`."""

    async def acquire_permits(self, holder: str, places: list[tuple[str, int]], ttl_ms: int) -> list[bool]:
        """See `Store`."""
        calls: list[ScriptCall] = [("acquire_permit", _name(key), (most, ttl_ms, holder)) for key, most in places]
        return [bool(taken) for taken in await self._client.scripts(calls)]

    async def renew_permits(self, held: list[tuple[str, str]], ttl_ms: int) -> None:
        """See `Store`."""
        by_key: dict[str, list[Argument]] = defaultdict(list)
        for key, holder in held:
            by_key[key].append(holder)
        calls: list[ScriptCall] = [("renew_permit", _name(key), (ttl_ms, *holders)) for key, holders in by_key.items()]
        for start in range(0, len(calls), KEYS_PER_CALL):
            await self._client.scripts(calls[start : start + KEYS_PER_CALL])

    async def release_permits(self, held: list[tuple[str, str]]) -> None:
        """See `Store`."""
        for start in range(0, len(held), KEYS_PER_CALL):
            few = held[start : start + KEYS_PER_CALL]
            await self._client.commands([("ZREM", _name(key), holder) for key, holder in few])


def _name(key: str) -> bytes:
    return b"turnwire:places:" + raw(key)
