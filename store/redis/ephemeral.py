"""Ephemeral values in Redis: one key each, so that a cluster can spread them over its nodes."""

from __future__ import annotations

from store.redis.client import ClientHolder
from store.redis.keys import raw


class RedisEphemeral(ClientHolder):
    """The ephemeral values of `Store`."""

    async def put_ephemeral(self, key: str, value: bytes, ttl_ms: int) -> bool:
        """See `Store`."""
        before = await self._client.command("SET", _name(key), value, "PX", ttl_ms, "GET", repeatable=False)
        return before is None

    async def pop_ephemeral(self, key: str) -> bytes | None:
        """See `Store`."""
        value: bytes | None = await self._client.command("GETDEL", _name(key), repeatable=False)
        return value

    async def get_ephemeral(self, keys: list[str]) -> list[bytes | None]:
        """See `Store`."""
        return await self._client.commands([("GET", _name(key)) for key in keys]) if keys else []


def _name(key: str) -> bytes:
    return b"turnwire:note:" + raw(key)
