"""A bounded pool of connections to Redis, which turns Redis' errors into `StoreError`.

A call takes one connection for one round trip. One deadline covers the whole call, including the wait for a
connection and the retries. A connection whose call was cancelled or cut off is closed, so that a late reply can't
answer another call.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from ssl import SSLCertVerificationError
from typing import Any
from urllib.parse import urlsplit

import structlog
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import TimeoutError as TooSlow

from store.records import StoreError
from store.redis.commands import Argument, packed
from store.redis.keys import channel_prefix
from store.redis.scripts import load_scripts

log = structlog.stdlib.get_logger("turnwire.store")

CONNECTIONS_MAX = 16
CALL_TIMEOUT_S = 2.2
REPLY_S = 0.2
"""The part of a call's timeout that is reserved for its reply."""
CONNECT_TIMEOUT_S = 2.0
RETRIES = 2
RETRY_DELAY_S = 0.1

ScriptCall = tuple[str, bytes, tuple[Argument, ...]]
"""A script's name, its only key, and its arguments."""

AWAY = "The store can't be reached."
SILENT = "The store didn't answer in time."
NO_DATABASE = ("DB index is out of range", "invalid DB index", "SELECT is not allowed in cluster mode")
DENIED = (AuthenticationError, AuthorizationError, NoPermissionError)


class RedisClient:
    """A client for one Redis. Raises only `StoreError`, whose message has neither the address nor a secret.

    `copies`: the number of replicas that have to have a durable call, and how many ms the call waits for them.
    """

    def __init__(self, url: str, *, history_ttl_s: float, log_ttl_s: float, copies: tuple[int, int] = (0, 0)) -> None:
        try:
            options = dict[str, Any](parse_url(url))
            parts = urlsplit(url)
            self.tls = parts.scheme == "rediss"
            if parts.scheme != "unix" and not parts.path.strip("/").isdecimal() and parts.path.strip("/"):
                raise ValueError("a database is a number")
            self._connection_class = options.pop("connection_class", Connection)
            self._options = {
                **options,
                # The deadline of the whole call is enough, and redis-py's own timeouts can swallow a cancellation.
                "socket_timeout": None,
                "socket_connect_timeout": CONNECT_TIMEOUT_S,
                "retry": Retry(NoBackoff(), 0),
                "protocol": 2,
                "driver_info": None,
                "decode_responses": False,
            }
            self.address = _address(self.connection())
        except (ValueError, TypeError):
            # The cause may quote the URL, which may hold a password.
            raise StoreError(
                "The store's URL can't be understood. Give --store redis://USER:PASSWORD@HOST:PORT/DB, with"
                " percent-encoding where the password has a / or a @."
            ) from None
        self.channels = channel_prefix(int(options.get("db", 0)))
        self._scripts = load_scripts(
            channels=self.channels, history_ms=int(history_ttl_s * 1000), log_ms=int(log_ttl_s * 1000)
        )
        self._copies = copies
        self._slots = asyncio.Semaphore(CONNECTIONS_MAX)
        self._idle: list[AbstractConnection] = []
        self._closed = False

    def connection(self) -> AbstractConnection:
        """Return a new connection with the client's time limits, not yet connected and not in the pool."""
        made: AbstractConnection = self._connection_class(**self._options)
        return made

    async def close(self) -> None:
        """Close every idle connection; later calls fail."""
        self._closed = True
        await self._drop_idle()

    async def script(
        self, name: str, key: bytes, *arguments: Argument, repeatable: bool = True, durable: bool = False
    ) -> Any:
        """Run one script and return its result. See `scripts`, also for `repeatable` and `durable`."""
        return (await self.scripts([(name, key, arguments)], repeatable=repeatable, durable=durable))[0]

    async def scripts(
        self, calls: Iterable[ScriptCall], *, repeatable: bool = True, durable: bool = False
    ) -> list[Any]:
        """Run scripts in one round trip, each atomic by itself, and return their results in order.

        If one fails, the others have run all the same, and its error is raised. `repeatable`: running them twice is
        harmless, so the call is retried if its connection breaks. `durable`: wait for the replicas.
        """
        known = [(self._scripts[name], key, arguments) for name, key, arguments in calls]
        commands = [("EVALSHA", script.sha, 1, key, *arguments) for script, key, arguments in known]
        exchange = self._exchange_durably if durable else self._exchange
        replies = await exchange(commands, repeatable)
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            # The first call of each script sends its source; then Redis knows it for the calls after.
            sent: set[bytes] = set()
            again: list[tuple[Argument, ...]] = []
            for at in unknown:
                script, key, arguments = known[at]
                with_source = script.sha not in sent
                sent.add(script.sha)
                opening = ("EVAL", script.source) if with_source else ("EVALSHA", script.sha)
                again.append((*opening, 1, key, *arguments))
            for at, reply in zip(unknown, await exchange(again, repeatable), strict=True):
                replies[at] = reply
        return await self._checked(replies)

    async def _exchange_durably(self, commands: Sequence[tuple[Argument, ...]], repeatable: bool) -> list[Any]:
        """Do `_exchange`, then wait until enough replicas have the data or the wait times out."""
        wanted, wait_ms = self._copies
        if wanted == 0:
            return await self._exchange(commands, repeatable)
        *replies, copies = await self._exchange([*commands, ("WAIT", wanted, wait_ms)], repeatable)
        if isinstance(copies, int) and copies < wanted and not isinstance(replies[0], NoScriptError):
            log.warning("ending stored on too few replicas", copies=copies, wanted=wanted)
        return replies

    async def load(self) -> None:
        """Load every script into Redis, so that the first calls need no second round trip."""
        await self.commands([("SCRIPT", "LOAD", script.source) for script in self._scripts.values()])

    async def command(self, *command: Argument, repeatable: bool = True) -> Any:
        """Run one command and return its result. `repeatable`: see `scripts`."""
        return (await self.commands([command], repeatable=repeatable))[0]

    async def commands(self, commands: Sequence[tuple[Argument, ...]], *, repeatable: bool = True) -> list[Any]:
        """Run `commands` in one round trip and return their results in order. Raises the first error.

        `repeatable`: see `scripts`.
        """
        return await self._checked(await self._exchange(commands, repeatable))

    async def deadline_ms(self) -> int:
        """Return the time by which a call that begins now has to run, by Redis' clock, in ms since 1970.

        If it runs later, this client has already reported it as failed.
        """
        seconds, micros = await self.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000 + int((CALL_TIMEOUT_S - REPLY_S) * 1000)

    async def _checked(self, replies: list[Any]) -> list[Any]:
        for reply in replies:
            if isinstance(reply, ResponseError):
                if isinstance(reply, ReadOnlyError):
                    # After a failover the connections lead to the old primary; the host name leads to the new one.
                    await self._drop_idle()
                raise StoreError(sentence(reply)) from reply
        return replies

    async def _exchange(self, commands: Sequence[tuple[Argument, ...]], repeatable: bool) -> list[Any]:
        """Return the replies in order; an error that Redis replied is one of them."""
        if self._closed:
            raise StoreError("The store is closed.")
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                for left in reversed(range(RETRIES + 1 if repeatable else 1)):
                    try:
                        return await self._round_trip(commands, repeatable)
                    except (ConnectionLost, OSError) as error:
                        if left == 0 or isinstance(error, DENIED):
                            raise
                        await asyncio.sleep(random.uniform(0.1, 1) * RETRY_DELAY_S)
        except TimeoutError as error:
            raise StoreError(SILENT) from error
        except (RedisError, OSError) as error:
            raise StoreError(sentence(error)) from error
        raise AssertionError("the last attempt returns or raises")

    async def _round_trip(self, commands: Sequence[tuple[Argument, ...]], repeatable: bool) -> list[Any]:
        async with self._borrowed() as connection:
            if connection.is_connected and not repeatable and await connection.can_read():
                # Redis closed the connection or sent something while it was idle. An unrepeatable call needs a new one.
                await connection.disconnect(nowait=True)
            await connect(connection)
            for piece in packed(commands):
                await connection.send_packed_command(piece, check_health=False)
            replies = []
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(_unwrapped(error))
            return replies

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[AbstractConnection]:
        """Yield a connection for one round trip; it goes back to the pool only if the round trip was completed."""
        async with self._slots:
            connection = self._idle.pop() if self._idle else self.connection()
            try:
                yield connection
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            if self._closed:
                await connection.disconnect(nowait=True)
            else:
                self._idle.append(connection)

    async def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.disconnect(nowait=True)


class ClientHolder:
    """The base class of the store's parts that use a `RedisClient`."""

    def __init__(self, link: RedisClient) -> None:
        self._client = link


async def connect(connection: AbstractConnection) -> None:
    """Open the connection and do its handshake, unless it is open."""
    await connection.connect()  # type: ignore[no-untyped-call]


def _unwrapped(error: ResponseError) -> ResponseError:
    """Return the error of a command in a script without the error that Redis 6.2 wraps around it."""
    for code, kind in (("-OOM ", OutOfMemoryError), ("-READONLY ", ReadOnlyError)):
        if code in str(error):
            return kind(str(error))
    return error


def sentence(error: Exception) -> str:
    """Return what an error means as a sentence for a person, without the text of Redis or of the system."""
    if isinstance(error, OutOfMemoryError):
        return "The store is full."
    if isinstance(error, DENIED):
        return "The store refuses the credentials, or what we may do with them. Check the user and the password."
    if isinstance(error, BusyLoadingError):
        return "The store is still reading its data. Try again in a moment."
    if isinstance(error, ResponseError) and any(said in str(error) for said in NO_DATABASE):
        return "The store has no such database. Name another one at the end of its URL; 0 is always there."
    if isinstance(error, ResponseError) and "unknown command" in str(error):
        return "The store doesn't know what we ask: Redis 6.2 or newer, or Valkey, is needed."
    if isinstance(error.__context__, SSLCertVerificationError):
        return "The store's certificate isn't trusted. Name who signed it: rediss://…?ssl_ca_certs=FILE."
    if isinstance(error, TooSlow):
        return SILENT
    if isinstance(error, ConnectionLost | OSError):
        return AWAY
    if isinstance(error, ReadOnlyError):
        return "The store can only be read now."
    return "The store can't do it now."


def _address(connection: Any) -> str:
    if path := getattr(connection, "path", None):
        return str(path)
    return f"{connection.host}:{connection.port}"
