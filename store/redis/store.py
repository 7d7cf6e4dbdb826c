"""The Redis store, which many instances share. Its parts are the modules beside this one; its scripts are in `lua/`."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import structlog

from store.errors import PartFailed, StoreError
from store.redis.client import A_SENTINEL, TIMED_OUT, UNREACHABLE, RedisClient
from store.redis.cluster import NO_HOST, SLOTS, ClusterRoutes
from store.redis.ephemeral import RedisEphemeral
from store.redis.erasure import RedisErasure
from store.redis.history import RedisHistory
from store.redis.leases import RedisLeases
from store.redis.outbox import RedisOutbox
from store.redis.pubsub import RedisPubSub
from store.redis.restores import RedisRestores
from store.redis.search import RedisSearch
from store.redis.target import check_files
from store.redis.turns import RedisTurns
from store.redis.usage import RedisUsage

log = structlog.stdlib.get_logger("turnwire.store")

VERSION_MIN = (6, 2)
SHARDED_PUBSUB = (7, 0)
"""The first version with sharded pub/sub."""
OPEN_ATTEMPTS = 3
"""The number of attempts to open a Redis that doesn't answer in time."""


class RedisStore(
    RedisTurns,
    RedisLeases,
    RedisPubSub,
    RedisHistory,
    RedisUsage,
    RedisSearch,
    RedisErasure,
    RedisEphemeral,
    RedisOutbox,
    RedisRestores,
):
    """A `Store` on Redis 6.2 or newer, or Valkey. For `url` see `store.connect.connect`.

    A conversation is kept for `history_ttl_s` after its last change (0: until it is deleted), and a log for `log_ttl_s`
    after the turn's ending. A conversation without retention of its own is kept for `retention_days` at most (0: no bound).
    If one of these settings changes, it applies to a conversation and its messages from the conversation's next change on.
    Storing an ending, or a user's change of a conversation, waits up to `wait_ms` until `wait_replicas` replicas have it too; if
    they don't, that is logged.
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
        check_files(self._client.target)
        for attempts_left in reversed(range(OPEN_ATTEMPTS)):
            try:
                await self._open()
                return
            except StoreError as error:
                if not attempts_left or str(error) != TIMED_OUT:
                    raise StoreError(f"{error} {self._hint(str(error))}") from error

    async def _open(self) -> None:
        if self._client.target.kind != "cluster":
            hello = _parse_hello(await self._client.command("HELLO"))
            if hello.get(b"mode") == b"sentinel":
                raise StoreError(A_SENTINEL)
            if hello.get(b"mode") == b"cluster" and self._client.cluster is None:
                # The URL names a node of a cluster.
                if not self._client.target.hosts:
                    raise StoreError("The Redis is a node of a cluster. Use redis+cluster://HOST:PORT,HOST:PORT.")
                await self._client.use_cluster()
            else:
                _check_version(hello)
        if self._client.cluster is not None:
            await self._open_cluster(self._client.cluster)
        await self._client.load()
        with suppress(StoreError):  # the gateway's Redis user may not be allowed to run INFO
            policies = {_policy(memory) for _, memory in await self._client.on_each_master("INFO", "MEMORY")}
            for policy in policies - {"noeviction", ""}:
                log.warning(
                    "Redis may evict turns and conversations when it is full: set maxmemory-policy noeviction",
                    policy=policy,
                )

    async def _open_cluster(self, cluster: ClusterRoutes) -> None:
        """Check that every slot has a master that answers. Raises `StoreError`, which names those that don't."""
        answers = await self._client.on_each_master("HELLO")
        if uncovered := cluster.uncovered():
            ranges = ", ".join(f"{first}-{last}" for first, last in uncovered[:5])
            raise StoreError(f"The cluster is incomplete: no master has the slots {ranges}. See CLUSTER INFO.")
        if any(node.host == NO_HOST for node, _ in answers):
            raise StoreError(
                "The cluster's nodes don't announce their host names. Set cluster-announce-hostname on each of them, or "
                "cluster-preferred-endpoint-type ip."
            )
        failed = [
            f"{node.address} ({cluster.slots_of(node)} of {SLOTS} slots): {answer}"
            for node, answer in answers
            if isinstance(answer, StoreError)
        ]
        if failed:
            raise StoreError(
                f"{len(failed)} of the cluster's {len(answers)} masters can't be used: {'; '.join(failed)}"
            )
        versions = [_check_version(_parse_hello(answer)) for _, answer in answers]
        await self._client.on_each_master("PING")
        if min(versions) >= SHARDED_PUBSUB:
            self._client.use_sharded_pubsub()

    def _hint(self, message: str) -> str:
        """Return the address of a Redis that can't be opened, and what to check there. `message`: the error's message."""
        address = self._client.address
        what = "Sentinels run" if self._client.target.kind == "sentinel" else "Redis runs"
        if message not in {UNREACHABLE, TIMED_OUT}:
            return f"The {what.split()[0]} {'are' if what.startswith('S') else 'is'} at {address}."
        if self._client.tls:
            return f"Check that {what} at {address} with TLS. Without TLS, use redis:// instead of rediss://."
        return f"Check that {what} at {address}. With TLS, use rediss:// instead of redis://."

    async def close(self) -> None:
        """See `Store`."""
        await self._client.close()

    async def ping(self) -> None:
        """See `Store`. Raises `PartFailed` if some masters of a cluster don't answer, and others do."""
        answers = [answer for _, answer in await self._client.on_each_master("PING")]
        errors = [answer for answer in answers if isinstance(answer, StoreError)]
        if errors:
            raise errors[0] if len(errors) == len(answers) else PartFailed


def _parse_hello(reply: list[Any]) -> dict[bytes, Any]:
    """Return the fields of the reply to HELLO."""
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _check_version(hello: dict[bytes, Any]) -> tuple[int, ...]:
    """Return the server's version from its reply to HELLO. Raises `StoreError` if it is too old."""
    text = hello[b"version"].decode()
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if version < VERSION_MIN:
        raise StoreError(f"Redis {text} is too old. Use Redis {'.'.join(map(str, VERSION_MIN))} or newer, or Valkey.")
    return version


def _policy(memory: bytes | StoreError) -> str:
    """Return the eviction policy from the reply to INFO; "" if it isn't known."""
    found = None if isinstance(memory, StoreError) else re.search(rb"maxmemory_policy:(\S+)", memory)
    return "" if found is None else found[1].decode()
