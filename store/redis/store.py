"""The Redis store, which many instances share. Its parts are the modules beside this one; its scripts are in `lua/`."""

from __future__ import annotations

import re
from contextlib import suppress

import structlog

from store.records import StoreError
from store.redis.client import TIMED_OUT, UNREACHABLE, RedisClient
from store.redis.ephemeral import RedisEphemeral
from store.redis.erasure import RedisErasure
from store.redis.history import RedisHistory
from store.redis.keys import BUCKETS, bucket_key
from store.redis.leases import RedisLeases
from store.redis.outbox import RedisOutbox
from store.redis.pubsub import RedisPubSub
from store.redis.search import RedisSearch
from store.redis.turns import RedisTurns

log = structlog.stdlib.get_logger("turnwire.store")

VERSION_MIN = (6, 2)
OPEN_ATTEMPTS = 3
"""The number of attempts to open a Redis that doesn't answer in time."""


class RedisStore(
    RedisTurns, RedisLeases, RedisPubSub, RedisHistory, RedisSearch, RedisErasure, RedisEphemeral, RedisOutbox
):
    """A `Store` on Redis 6.2 or newer, or Valkey. `url` is `redis://`, `rediss://` or `unix://`.

    A conversation is kept for `history_ttl_s` after its last change (0: until it is deleted), and a log for `log_ttl_s`
    after the turn's ending. A conversation without retention of its own is kept for `retention_days` at most (0: no bound).
    Another value than before applies to a conversation and its messages from its next change.
    Storing an ending waits up to `wait_ms` until `wait_replicas` replicas have it too; if they don't, that is logged.
    `archived`: it is the store of an `ArchivedStore`.
    """

    shared = True

    def __init__(
        self,
        url: str,
        *,
        history_ttl_s: float = 86_400,
        log_ttl_s: float = 600,
        retention_days: int = 0,
        wait_replicas: int = 0,
        wait_ms: int = 500,
        archived: bool = False,
    ) -> None:
        super().__init__(
            RedisClient(
                url,
                history_ttl_s=history_ttl_s,
                log_ttl_s=log_ttl_s,
                retention_days=retention_days,
                wait_replicas=wait_replicas,
                wait_ms=wait_ms,
                archived=archived,
            )
        )

    async def open(self) -> None:
        """See `Store`. Try again if Redis doesn't answer in time, up to `OPEN_ATTEMPTS` times in all.

        Redis is silent for a moment while it forks or starts.
        """
        for attempts_left in reversed(range(OPEN_ATTEMPTS)):
            try:
                await self._open()
                return
            except StoreError as error:
                if not attempts_left or str(error) != TIMED_OUT:
                    raise StoreError(f"{error} {self._hint(str(error))}") from error

    async def _open(self) -> None:
        hello = await self._client.command("HELLO")
        # Read every bucket, so that opening fails on a node that serves only a part of a cluster.
        await self._client.commands([("ZCARD", bucket_key(number)) for number in range(BUCKETS)])
        version = dict(zip(hello[::2], hello[1::2], strict=True))[b"version"].decode()
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < VERSION_MIN:
            raise StoreError(
                f"Redis {version} is too old. Use Redis {'.'.join(map(str, VERSION_MIN))} or newer, or Valkey."
            )
        await self._client.load()
        with suppress(StoreError):  # the gateway's Redis user may not be allowed to run INFO
            memory = await self._client.command("INFO", "MEMORY")
            policy = re.search(rb"maxmemory_policy:(\S+)", memory)
            if policy is not None and policy[1] != b"noeviction":
                log.warning(
                    "Redis may evict turns and conversations when it is full: set maxmemory-policy noeviction",
                    policy=policy[1].decode(),
                )

    def _hint(self, message: str) -> str:
        """Return the address of a Redis that can't be opened, and what to check there. `message`: the error's message."""
        address = self._client.address
        if message not in {UNREACHABLE, TIMED_OUT}:
            return f"The Redis is at {address}."
        if self._client.tls:
            return f"Check that Redis runs at {address} with TLS. Without TLS, use redis:// instead of rediss://."
        return f"Check that Redis runs at {address}. With TLS, use rediss:// instead of redis://."

    async def close(self) -> None:
        """See `Store`."""
        await self._client.close()

    async def ping(self) -> None:
        """See `Store`."""
        await self._client.command("PING")
