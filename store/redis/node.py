"""A bounded pool of connections to one Redis server.

A round trip takes one connection. A connection whose call was cancelled or cut off is closed, so that a late reply can't
answer another call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from store.redis.commands import Argument, pack_commands
from store.redis.target import Target

CONNECTIONS_MAX = 16
CONNECT_TIMEOUT_S = 2.0

Command = tuple[Argument, ...]


class RedisNode:
    """One server and the connections to it. `address`: its host and port; None for the only address of `target`."""

    def __init__(self, target: Target, address: tuple[str, int] | None = None) -> None:
        host = address or (target.hosts[0] if target.hosts else None)
        self._connection_class = target.connection_class
        self._options: dict[str, Any] = {
            **target.options,
            # The deadline of the round trip is enough, and redis-py's own timeouts can swallow a cancellation.
            "socket_timeout": None,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
            "decode_responses": False,
        }
        if host is not None:
            self._options |= {"host": host[0], "port": host[1]}
        self.host, self.port = host or ("", 0)
        self.address = target.address if host is None else f"{self.host}:{self.port}"
        self._free_connections = asyncio.Semaphore(CONNECTIONS_MAX)
        self._idle: list[AbstractConnection] = []
        self._closed = False

    def connection(self, *, protocol: int = 2) -> AbstractConnection:
        """Return a new connection with the node's time limits, not yet connected and not in the pool.

        `protocol`: the version of RESP; in version 3, a subscriber may run other commands too.
        """
        connection: AbstractConnection = self._connection_class(**self._options, protocol=protocol)
        return connection

    async def round_trip(self, commands: Sequence[Command], repeatable: bool) -> list[Any]:
        """Send `commands` and return the replies in order; an error with which Redis replied is one of them.

        Raises an error of redis-py or an `OSError` if the connection is lost or can't be opened. If `repeatable` is
        false, no connection is used that the server may have closed while it was idle.
        """
        async with self._pooled_connection() as connection:
            if connection.is_connected and not repeatable and await connection.can_read():
                # Redis closed the connection or sent something while it was idle. An unrepeatable call needs a new one.
                await connection.disconnect(nowait=True)
            await connect(connection)
            for n, piece in enumerate(pack_commands(commands)):
                if n:
                    await asyncio.sleep(0)  # if Redis receives fast enough, sending lets no other task run
                await connection.send_packed_command(piece, check_health=False)
            replies = []
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(_unwrap(error))
            return replies

    @asynccontextmanager
    async def _pooled_connection(self) -> AsyncIterator[AbstractConnection]:
        """Yield a connection for one round trip.

        It goes back to the pool only if the round trip was completed, and the pool wasn't dropped in the meantime.
        """
        async with self._free_connections:
            pool = self._idle
            connection = pool.pop() if pool else self.connection()
            try:
                yield connection
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            if self._closed or pool is not self._idle:
                await connection.disconnect(nowait=True)
            else:
                pool.append(connection)

    async def drop_idle(self) -> None:
        """Close the idle connections, and each busy one after its call: after a failover they lead to the old primary."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close the idle connections, and each busy one after its call."""
        self._closed = True
        await self.drop_idle()


async def connect(connection: AbstractConnection) -> None:
    """Open the connection and do its handshake, unless it is open."""
    await connection.connect()  # type: ignore[no-untyped-call]


def _unwrap(error: ResponseError) -> ResponseError:
    """Return `error`, as its own class if it is an OOM or READONLY error that Redis 6.2 wraps in a script's error."""
    for code, kind in (("-OOM ", OutOfMemoryError), ("-READONLY ", ReadOnlyError)):
        if code in str(error):
            return kind(str(error))
    return error
