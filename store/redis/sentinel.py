"""Routes of calls to the master that the Sentinels name."""

from __future__ import annotations

import asyncio

import structlog
from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from store.redis.exchange import Exchange
from store.redis.node import RedisNode
from store.redis.routes import ACCESS_DENIED, LOST, RETRIES, failover_delay_s, ignore, topology_options
from store.redis.shared_task import SharedTask
from store.redis.target import Target

log = structlog.stdlib.get_logger("turnwire.store")


class NotASentinel(RedisError):
    """A server that the URL names as a Sentinel isn't one. The message names it."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"{host}:{port} isn't a Sentinel. Name only Sentinels after redis+sentinel://, usually with the port 26379; for a"
            " Redis without Sentinels, use redis://HOST:PORT/DB."
        )


class SentinelRoutes:
    """Routes to the master that the Sentinels name. They are asked again when it is lost or has become a replica."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]
            list(target.hosts),
            sentinel_kwargs={
                **target.sentinel_options,
                **({"ssl": True} if target.connection_class is SSLConnection else {}),
                **topology_options(),
            },
        )
        self._node: RedisNode | None = None
        self._address: tuple[str, int] | None = None
        self._is_lost = False
        self._discovery = SharedTask()
        self.on_change = ignore

    @property
    def known_masters(self) -> list[RedisNode]:
        """See `Routes`."""
        return [] if self._node is None else [self._node]

    async def run(self, exchange: Exchange) -> None:
        """See `Routes`."""
        indexes = list(range(len(exchange.commands)))
        exchange.replies = [RedisTimeoutError()] * len(indexes)
        attempt = 0
        while True:
            node: RedisNode | None = None
            try:
                node = await self._master()
                replies = await exchange.send(node, [exchange.commands[index] for index in indexes])
            except ACCESS_DENIED:
                raise
            except LOST as error:
                if (node is not None and not exchange.repeatable) or (
                    exchange.required_count == 0 and attempt == RETRIES
                ):
                    raise
                replies = [error] * len(indexes)
                if node is not None:
                    await node.drop_idle()
            except BaseException:
                self._is_lost = True  # cancelled, or the time is over: the master may be frozen
                raise
            refused = []
            for index, reply in zip(indexes, replies, strict=True):
                exchange.replies[index] = reply
                if isinstance(reply, (ReadOnlyError, *LOST)):
                    refused.append(index)
            if not refused:
                return
            indexes = refused
            self._is_lost = True
            await asyncio.sleep(failover_delay_s(attempt))
            attempt += 1

    async def masters(self) -> list[RedisNode]:
        """See `Routes`."""
        return [await self._master()]

    async def _master(self) -> RedisNode:
        if self._node is None or self._is_lost:
            await self._discovery.run(self._ask)
        assert self._node is not None
        return self._node

    async def _ask(self) -> None:
        """Ask the Sentinels. If none knows the master, keep the one that was known."""
        try:
            address = await self._sentinel.discover_master(self._target.master)
        except (RedisError, OSError) as error:
            if self._node is not None:
                return
            unknown = error
        else:
            await self._use(address)
            return
        # Raised outside `except`, which would replace the error's context, such as a certificate that isn't trusted.
        raise await self._reason(unknown)

    async def _reason(self, unknown: Exception) -> Exception:
        """Return why no Sentinel names the master. redis-py's error, `unknown`, doesn't say why."""
        errors: list[Exception] = []
        has_answer = False
        for sentinel in self._sentinel.sentinels:
            try:
                await sentinel.sentinel_masters()
            except (RedisError, OSError) as error:
                if isinstance(error, ResponseError) and "unknown command" in str(error):
                    address = sentinel.connection_pool.connection_kwargs
                    return NotASentinel(address["host"], address["port"])
                errors.append(error)
            else:
                has_answer = True
        if has_answer:
            return unknown if isinstance(unknown, MasterNotFoundError) else MasterNotFoundError()
        return next((error for error in errors if isinstance(error, ACCESS_DENIED)), errors[0])

    async def _use(self, address: tuple[str, int]) -> None:
        """Use the server at this address as the master."""
        self._is_lost = False
        if address != self._address:
            if self._node is not None:
                log.info("Redis has another master")
                await self._node.close()
            self._node, self._address = RedisNode(self._target, address), address
            self.on_change()

    async def renew(self) -> None:
        """See `Routes`."""
        self._is_lost = True
        await self._discovery.run_briefly(self._ask)

    async def leave(self) -> None:
        """See `Routes`."""
        if self._node is not None:
            await self._node.drop_idle()
        await self.renew()

    async def close(self) -> None:
        """See `Routes`."""
        await self._discovery.close()
        await self._sentinel.aclose()
        if self._node is not None:
            await self._node.close()
