"""Ephemeral values, rate limits and connection permits in Redis, which Redis expires by its own clock.

A value is one key, a rate limit is the time when a user's next request is due, and the permits of a key are a sorted
set of holders by their time of expiry. A rate limit is on the node of its user's keys. The other keys are spread over
all nodes of a cluster, one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TypeVar

from store.redis.client import RedisPart, ScriptCall
from store.redis.commands import Argument
from store.redis.keys import encode_text, user_prefix

T = TypeVar("T")

CALLS_PER_ROUND_TRIP = 256


class RedisEphemeral(RedisPart):
    """`EphemeralStore` in Redis."""

    async def put_ephemeral(self, key: str, value: bytes, ttl_ms: int, user: str | None = None) -> bytes | None:
        """See `EphemeralStore`."""
        if user is not None:
            await self._client.scripts([("index_ephemeral", ephemeral_index_key(user), (encode_text(key), ttl_ms))])
        old: bytes | None = await self._client.command(
            "SET", value_key(key), value, "PX", ttl_ms, "GET", repeatable=False
        )
        return old

    async def pop_ephemeral(self, key: str) -> bytes | None:
        """See `EphemeralStore`."""
        value: bytes | None = await self._client.command("GETDEL", value_key(key), repeatable=False)
        return value

    async def get_ephemeral(self, keys: list[str]) -> list[bytes | None]:
        """See `EphemeralStore`."""
        return await self._client.commands([("GET", value_key(key)) for key in keys]) if keys else []

    async def clock_ms(self) -> int:
        """See `EphemeralStore`."""
        seconds, micros = await self._client.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def count_requests(self, counts: list[tuple[str, int, int]], interval_us: int) -> list[int]:
        """See `EphemeralStore`."""
        calls: list[ScriptCall] = [
            ("count_requests", user_prefix(user) + b"requests", (count, ago_us, interval_us))
            for user, count, ago_us in counts
        ]
        return [
            ahead_us for batch in _batches(calls) for ahead_us in await self._client.scripts(batch, repeatable=False)
        ]

    async def acquire_permits(self, holder: str, limits: list[tuple[str, int]], ttl_ms: int) -> list[bool]:
        """See `EphemeralStore`."""
        calls: list[ScriptCall] = [
            ("acquire_permit", permits_key(key), (limit, ttl_ms, holder)) for key, limit in limits
        ]
        return [bool(is_acquired) for is_acquired in await self._client.scripts(calls)]

    async def renew_permits(self, permits: list[tuple[str, str]], ttl_ms: int) -> None:
        """See `EphemeralStore`."""
        by_key: dict[str, list[Argument]] = defaultdict(list)
        for key, holder in permits:
            by_key[key].append(holder)
        for batch in _batches(list(by_key.items())):
            await self._client.scripts(
                [("renew_permits", permits_key(key), (ttl_ms, *holders)) for key, holders in batch]
            )

    async def release_permits(self, permits: list[tuple[str, str]]) -> None:
        """See `EphemeralStore`."""
        for batch in _batches(permits):
            await self._client.commands([("ZREM", permits_key(key), holder) for key, holder in batch])


def _batches(items: list[T]) -> Iterator[list[T]]:
    """Yield `items` in lists that are short enough for one round trip."""
    for start in range(0, len(items), CALLS_PER_ROUND_TRIP):
        yield items[start : start + CALLS_PER_ROUND_TRIP]


def ephemeral_index_key(user: str) -> bytes:
    """Return the key that lists the ephemeral values of the user."""
    return user_prefix(user) + b"notes"


def value_key(key: str) -> bytes:
    """Return the key in Redis of an ephemeral value."""
    return b"turnwire:note:" + encode_text(key)


def permits_key(key: str) -> bytes:
    """Return the key in Redis of the permits of `key`."""
    return b"turnwire:places:" + encode_text(key)
