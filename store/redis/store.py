"""The Redis store: shared by many instances. Its parts are in the `redis_*.py` beside, its steps in `lua/`."""

from __future__ import annotations

import re
from contextlib import suppress

import structlog

from store.records import StoreError
from store.redis.client import AWAY, SILENT, RedisClient
from store.redis.ephemeral import RedisNotes
from store.redis.history import RedisHistory
from store.redis.keys import BUCKETS, bucket_key
from store.redis.leases import RedisLeases
from store.redis.permits import RedisPlaces
from store.redis.pubsub import RedisSignals
from store.redis.rates import RedisPaces
from store.redis.turns import RedisTurns

log = structlog.stdlib.get_logger("turnwire.store")

VERSION_MIN = (6, 2)
OPENINGS = 3
"""So often it may be silent before it counts as away."""


class RedisStore(RedisTurns, RedisLeases, RedisHistory, RedisNotes, RedisPaces, RedisPlaces, RedisSignals):
    """`Store` on Redis 6.2 or newer, or Valkey. `url` is `redis://`, `rediss://` or `unix://`.

    A conversation is kept for `history_ttl_s` after its last change, a log for `log_ttl_s` after the turn's ending.
    An ending waits up to `wait_ms` until `wait_replicas` replicas have it too; where they don't, that is logged.
    """

    shared = True

    def __init__(
        self,
        url: str,
        *,
        history_ttl_s: float = 86_400,
        log_ttl_s: float = 600,
        wait_replicas: int = 0,
        wait_ms: int = 500,
    ) -> None:
        copies = (wait_replicas, wait_ms)
        super().__init__(RedisClient(url, history_ttl_s=history_ttl_s, log_ttl_s=log_ttl_s, copies=copies))

    async def open(self) -> None:
        """See `Store`. A Redis that is silent for a moment, because it forks or is just being started, is asked again."""
        for left in reversed(range(OPENINGS)):
            try:
                await self._open()
                return
            except StoreError as error:
                if not left or str(error) != SILENT:
                    raise StoreError(f"{error} {self._hint(str(error))}") from error

    async def _open(self) -> None:
        said = await self._link.command("HELLO")
        # Every bucket is read, so that a node which serves only a part of a cluster is found out now.
        await self._link.commands([("ZCARD", bucket_key(number)) for number in range(BUCKETS)])
        version = dict(zip(said[::2], said[1::2], strict=True))[b"version"].decode()
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < VERSION_MIN:
            raise StoreError(
                f"Redis {version} is too old: {'.'.join(map(str, VERSION_MIN))} or newer, or Valkey, is needed."
            )
        await self._link.load()
        with suppress(StoreError):  # a user of its own may not be allowed to ask
            memory = await self._link.command("INFO", "MEMORY")
            policy = re.search(rb"maxmemory_policy:(\S+)", memory)
            if policy is not None and policy[1] != b"noeviction":
                log.warning(
                    "Redis may drop turns and conversations when it is full: set maxmemory-policy noeviction",
                    policy=policy[1].decode(),
                )

    def _hint(self, said: str) -> str:
        """What to look at when Redis can't be opened."""
        address = self._link.address
        if said not in {AWAY, SILENT}:
            return f"That is the Redis at {address}."
        if self._link.tls:
            return f"Is Redis running at {address}, and with TLS? For one without give redis:// and not rediss://."
        return f"Is Redis running at {address}? For one with TLS give rediss:// and not redis://."

    async def close(self) -> None:
        """See `Store`."""
        await self._link.close()

    async def ping(self) -> None:
        """See `Store`."""
        await self._link.command("PING")
