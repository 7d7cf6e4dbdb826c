"""Routes of calls to the only server, or to the master that the Sentinels name. For a cluster, see `cluster.py`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import structlog
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from store.redis.node import Command, RedisNode
from store.redis.target import Target

log = structlog.stdlib.get_logger("turnwire.store")

RETRIES = 2
RETRY_DELAY_S = 0.1
FAILOVER_DELAY_S_MIN, FAILOVER_DELAY_S_MAX = 0.02, 0.3
"""The delay between two attempts while another server is to become the master."""
TOPOLOGY_TIMEOUT_S = 0.5
"""How long a server may take to connect, and to tell who is the master. Then the next one is asked."""

ACCESS_DENIED = (AuthenticationError, AuthorizationError, NoPermissionError)
LOST = (RedisConnectionError, RedisTimeoutError, OSError)
"""A connection is lost or can't be opened, or the server is still loading its data."""


class NotASentinel(RedisError):
    """A server that the URL names as a Sentinel isn't one. The message names it."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"{host}:{port} isn't a Sentinel. Name only Sentinels after redis+sentinel://, usually with the port 26379; for a"
            " Redis without Sentinels, use redis://HOST:PORT/DB."
        )


class Exchange:
    """Commands that are sent together, and their replies in order. An error is a reply too.

    `repeatable`: running the commands twice is harmless. `wait`: a WAIT command that follows them on each server.
    `hasty_from`: the commands from this index on need not be repeated until a failover is over: `RETRIES` times are
    enough. None: there are no such commands. `node`: the server; by default it follows from the key of each command.
    `key`: commands that name no key are sent to the server that has this one.
    """

    __slots__ = ("asking", "commands", "hasty_from", "key", "node", "redirected", "repeatable", "replies", "wait")

    def __init__(
        self,
        commands: Sequence[Command],
        *,
        repeatable: bool = True,
        wait: Command | None = None,
        hasty_from: int | None = None,
        node: RedisNode | None = None,
        key: bytes | None = None,
    ) -> None:
        self.key = key
        self.commands = commands
        self.repeatable = repeatable
        self.wait = wait
        self.hasty_from = len(commands) if hasty_from is None else hasty_from
        self.node = node
        self.replies: list[Any] = []
        self.redirected: dict[int, RedisNode] = {}
        """The node to which another one has redirected a command, by the command's place."""
        self.asking: set[int] = set()
        """The redirected commands that an ASKING has to precede."""

    async def send(self, node: RedisNode, commands: Sequence[Command]) -> list[Any]:
        """Send some of the commands to `node` and return their replies. Log it if too few replicas have the writes."""
        if self.wait is None:
            return await node.round_trip(commands, self.repeatable)
        *replies, replicas = await node.round_trip([*commands, self.wait], self.repeatable)
        required = self.wait[1]
        if isinstance(replicas, int) and replicas < int(str(required)) and not isinstance(replies[-1], ResponseError):
            log.warning("stored on too few replicas", replicas=replicas, required=required)
        return replies


class Routes(Protocol):
    """Routes of commands to servers. `on_change` is called when other servers become masters, or slots move."""

    on_change: Callable[[], None]

    @property
    def known_masters(self) -> list[RedisNode]:
        """The servers that accept writes, as far as they are known."""

    async def run(self, exchange: Exchange) -> None:
        """Send the commands and set the replies. Raises an error of redis-py or an `OSError` if all of it failed."""

    async def masters(self) -> list[RedisNode]:
        """Return the servers that accept writes."""

    async def renew(self) -> None:
        """Look for the masters again; return after a moment even if they aren't known yet. Raises nothing."""

    async def leave(self) -> None:
        """Close the connections, because the server has become a replica; see `renew`."""

    async def close(self) -> None:
        """Close the connections, and each busy one after its call."""


class OneNode:
    """Routes to a server whose address doesn't change. After a failover, the address leads to another server."""

    def __init__(self, target: Target) -> None:
        self._node = RedisNode(target)
        self.on_change = ignore

    @property
    def known_masters(self) -> list[RedisNode]:
        """See `Routes`."""
        return [self._node]

    async def run(self, exchange: Exchange) -> None:
        """See `Routes`."""
        node, commands = self._node, exchange.commands
        for retries_left in reversed(range(RETRIES + 1 if exchange.repeatable else 1)):
            try:
                if exchange.wait is None:
                    exchange.replies = await node.round_trip(commands, exchange.repeatable)
                else:
                    exchange.replies = await exchange.send(node, commands)
                return
            except (RedisConnectionError, OSError) as error:
                if retries_left == 0 or isinstance(error, ACCESS_DENIED):
                    raise
                await asyncio.sleep(random.uniform(0.1, 1) * RETRY_DELAY_S)

    async def masters(self) -> list[RedisNode]:
        """See `Routes`."""
        return [self._node]

    async def renew(self) -> None:
        """See `Routes`."""

    async def leave(self) -> None:
        """See `Routes`."""
        await self._node.drop_idle()

    async def close(self) -> None:
        """See `Routes`."""
        await self._node.close()


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
                if (node is not None and not exchange.repeatable) or (exchange.hasty_from == 0 and attempt == RETRIES):
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
        """Return why no Sentinel names the master. redis-py's error, `unknown`, doesn't tell it."""
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


class SharedTask:
    """A task that several callers may wait for, and that goes on if one of them is cancelled."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self, make: Any) -> asyncio.Task[None]:
        """Return the running task. If there is none, start one with the coroutine that `make` returns."""
        if self._task is None or self._task.done():
            made: Coroutine[Any, Any, None] = make()
            self._task = asyncio.get_running_loop().create_task(made)
            self._task.add_done_callback(_retrieve)
        return self._task

    async def run(self, make: Any) -> None:
        """Wait for the task. Raises its error."""
        await asyncio.shield(self.start(make))

    async def run_briefly(self, make: Any) -> None:
        """Wait for the task, but only for a moment. Raises nothing."""
        await asyncio.wait({self.start(make)}, timeout=TOPOLOGY_TIMEOUT_S)

    async def close(self) -> None:
        """Cancel the task."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieve the error of a task, so that asyncio doesn't log it if no caller waits for the task."""
    if not task.cancelled():
        task.exception()


def ignore() -> None:
    """Do nothing."""


def topology_options() -> dict[str, Any]:
    """Return redis-py's options of the connections that ask for the masters."""
    return {
        "socket_timeout": TOPOLOGY_TIMEOUT_S,
        "socket_connect_timeout": TOPOLOGY_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,
        "protocol": 2,
    }


def failover_delay_s(attempt: int) -> float:
    """Return how long to wait before the next attempt, in seconds. `attempt`: the number of attempts so far."""
    return random.uniform(0.5, 1) * min(FAILOVER_DELAY_S_MIN * float(2**attempt), FAILOVER_DELAY_S_MAX)
