"""Routes of calls to servers: their interface, and the route to the only server.

For a master that Sentinels name, see `sentinel.py`; for a cluster, see `cluster.py`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Protocol

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from store.redis.exchange import Exchange
from store.redis.node import RedisNode
from store.redis.target import Target

RETRIES = 2
RETRY_DELAY_S = 0.1
FAILOVER_DELAY_S_MIN, FAILOVER_DELAY_S_MAX = 0.02, 0.3
"""The delay between two attempts while another server is to become the master."""
TOPOLOGY_TIMEOUT_S = 0.5
"""How long a server may take to accept a connection, and to name the master. Then the next one is asked."""

ACCESS_DENIED = (AuthenticationError, AuthorizationError, NoPermissionError)
LOST = (RedisConnectionError, RedisTimeoutError, OSError)
"""A connection is lost or can't be opened, or the server is still loading its data."""


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
