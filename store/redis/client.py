"""A bounded pool of connections to Redis, which turns Redis' errors into `StoreError`.

A round trip takes one connection. One deadline covers it, including the wait for a connection and the retries. A call
takes one round trip, and a second one if Redis doesn't know its scripts. A connection whose call was cancelled
or cut off is closed, so that a late reply can't answer another call.
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
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from store.records import CLOSED, StoreError
from store.redis.commands import Argument, pack_commands
from store.redis.keys import channel_prefix, encode_text, outbox_bucket_of, user_prefix
from store.redis.scripts import load_scripts

log = structlog.stdlib.get_logger("turnwire.store")

CONNECTIONS_MAX = 16
CALL_TIMEOUT_S = 2.2
REPLY_RESERVE_S = 0.2
"""The part of `CALL_TIMEOUT_S` that is reserved for the reply."""
CONNECT_TIMEOUT_S = 2.0
RETRIES = 2
RETRY_DELAY_S = 0.1

ScriptCall = tuple[str, bytes, tuple[Argument, ...]]
"""A script's name, its only key, and its arguments."""

UNREACHABLE = "The store can't be reached."
TIMED_OUT = "The store didn't respond in time."
NO_DATABASE = ("DB index is out of range", "invalid DB index", "SELECT is not allowed in cluster mode")
ACCESS_DENIED = (AuthenticationError, AuthorizationError, NoPermissionError)


class RedisClient:
    """A client for one Redis. Raises only `StoreError`, whose message has neither the address nor a secret.

    A durable call waits up to `wait_ms` until `wait_replicas` replicas have its writes. `archived`: the scripts note in
    outboxes what an archive has to store.
    """

    def __init__(
        self,
        url: str,
        *,
        history_ttl_s: float,
        log_ttl_s: float,
        retention_days: int = 0,
        wait_replicas: int = 0,
        wait_ms: int = 0,
        archived: bool = False,
    ) -> None:
        try:
            options = dict[str, Any](parse_url(url))
            options.pop("protocol", None)
            parts = urlsplit(url)
            self.tls = parts.scheme == "rediss"
            if parts.scheme != "unix" and not parts.path.strip("/").isdecimal() and parts.path.strip("/"):
                raise ValueError("a database is a number")
            self._connection_class = options.pop("connection_class", Connection)
            self._options = {
                **options,
                # The deadline of the round trip is enough, and redis-py's own timeouts can swallow a cancellation.
                "socket_timeout": None,
                "socket_connect_timeout": CONNECT_TIMEOUT_S,
                "retry": Retry(NoBackoff(), 0),
                "driver_info": None,
                "decode_responses": False,
            }
            self.address = _address(self.connection())
        except (ValueError, TypeError):
            # The cause may quote the URL, which may hold a password.
            raise StoreError(
                "The store's URL is invalid. Use --store redis://USER:PASSWORD@HOST:PORT/DB, and percent-encode each"
                " / and @ in the password."
            ) from None
        self.channels = channel_prefix(int(options.get("db", 0)))
        self._scripts = load_scripts(
            channels=self.channels,
            history_ttl_ms=int(history_ttl_s * 1000),
            log_ttl_ms=int(log_ttl_s * 1000),
            archived=archived,
            retention_days=retention_days,
        )
        self.archived = archived
        self._wait_replicas, self._wait_ms = wait_replicas, wait_ms
        self._free_connections = asyncio.Semaphore(CONNECTIONS_MAX)
        self._idle: list[AbstractConnection] = []
        self._closed = False

    def connection(self, *, protocol: int = 2) -> AbstractConnection:
        """Return a new connection with the client's time limits, not yet connected and not in the pool.

        `protocol`: the version of RESP; in version 3, a subscriber may run other commands too.
        """
        connection: AbstractConnection = self._connection_class(**self._options, protocol=protocol)
        return connection

    async def close(self) -> None:
        """Close every idle connection; later calls fail."""
        self._closed = True
        await self.drop_idle()

    async def scripts(
        self, calls: Iterable[ScriptCall], *, repeatable: bool = True, durable: bool = False
    ) -> list[Any]:
        """Run scripts in one round trip, each atomic by itself, and return their results in order.

        Scripts that Redis doesn't know are sent in a second round trip. If one script fails, the others have run all the
        same, and its error is raised. `repeatable`: running them twice is harmless, so the call is retried if its
        connection breaks. `durable`: wait for the replicas.
        """
        resolved = [(self._scripts[name], (1, key, *arguments)) for name, key, arguments in calls]
        exchange = self._exchange_durably if durable else self._exchange
        replies = await exchange([("EVALSHA", script.sha, *rest) for script, rest in resolved], repeatable)
        not_loaded = {index: resolved[index] for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)}
        if not_loaded:
            # The first call of each script sends its source; then Redis knows it for the calls after.
            first = {script.sha: index for index, (script, _) in reversed(not_loaded.items())}
            retries = [
                ("EVAL", script.source, *rest) if first[script.sha] == index else ("EVALSHA", script.sha, *rest)
                for index, (script, rest) in not_loaded.items()
            ]
            for index, reply in zip(not_loaded, await exchange(retries, repeatable), strict=True):
                replies[index] = reply
        return await self._check(replies)

    async def _exchange_durably(self, commands: Sequence[tuple[Argument, ...]], repeatable: bool) -> list[Any]:
        """Do `_exchange`, then wait until enough replicas have the data or the wait times out."""
        required = self._wait_replicas
        if required == 0:
            return await self._exchange(commands, repeatable)
        *replies, replicas = await self._exchange([*commands, ("WAIT", required, self._wait_ms)], repeatable)
        if isinstance(replicas, int) and replicas < required and not isinstance(replies[0], NoScriptError):
            log.warning("ending stored on too few replicas", replicas=replicas, required=required)
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
        return await self._check(await self._exchange(commands, repeatable))

    async def deadline_ms(self) -> int:
        """Return the time by which a call that begins now has to run, by Redis' clock, in ms since 1970.

        If it runs later, its reply may come too late, when this client has reported the call as failed.
        """
        seconds, micros = await self.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000 + int((CALL_TIMEOUT_S - REPLY_RESERVE_S) * 1000)

    async def _check(self, replies: list[Any]) -> list[Any]:
        for reply in replies:
            if isinstance(reply, ResponseError):
                if isinstance(reply, ReadOnlyError):
                    # After a failover the connections lead to the old primary; the host name leads to the new one.
                    await self.drop_idle()
                raise StoreError(error_text(reply)) from reply
        return replies

    async def _exchange(self, commands: Sequence[tuple[Argument, ...]], repeatable: bool) -> list[Any]:
        """Return the replies in order; an error with which Redis replied is one of them."""
        if self._closed:
            raise StoreError(CLOSED)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                for retries_left in reversed(range(RETRIES + 1 if repeatable else 1)):
                    try:
                        return await self._round_trip(commands, repeatable)
                    except (RedisConnectionError, OSError) as error:
                        if retries_left == 0 or isinstance(error, ACCESS_DENIED):
                            raise
                        await asyncio.sleep(random.uniform(0.1, 1) * RETRY_DELAY_S)
        except TimeoutError as error:
            raise StoreError(TIMED_OUT) from error
        except (RedisError, OSError) as error:
            raise StoreError(error_text(error)) from error
        raise AssertionError("the last attempt returns or raises")

    async def _round_trip(self, commands: Sequence[tuple[Argument, ...]], repeatable: bool) -> list[Any]:
        async with self._pooled_connection() as connection:
            if connection.is_connected and not repeatable and await connection.can_read():
                # Redis closed the connection or sent something while it was idle. An unrepeatable call needs a new one.
                await connection.disconnect(nowait=True)
            await connect(connection)
            for n, piece in enumerate(pack_commands(commands)):
                if n:
                    await asyncio.sleep(0)  # sending lets no other task run while Redis receives as fast as it is sent
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


class RedisPart:
    """The base class of the store's parts, which share a `RedisClient`."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def _script(
        self, name: str, user: str, *arguments: Argument | None, repeatable: bool = True, durable: bool = False
    ) -> Any:
        """Run one script over the keys of `user` and return its result. An argument that is None is left out.

        `repeatable`, `durable`: see `RedisClient.scripts`.
        """
        encoded = tuple(encode_text(one) if isinstance(one, str) else one for one in arguments if one is not None)
        call = (name, user_prefix(user), encoded)
        return (await self._client.scripts([call], repeatable=repeatable, durable=durable))[0]

    async def _change_history(self, user: str, calls: list[ScriptCall], **options: bool) -> list[Any]:
        """Run scripts that change the user's history and return their results. `options`: see `RedisClient.scripts`.

        If there is an archive, write to the index first that the user's outbox is about to be filled.
        """
        if not self._client.archived:
            return await self._client.scripts(calls, **options)
        return (await self._client.scripts([outbox_index_call(user), *calls], **options))[1:]


def outbox_index_call(user: str) -> ScriptCall:
    """Return the call that adds the user to the index of outboxes."""
    return ("index_outbox", outbox_bucket_of(user), (encode_text(user),))


async def connect(connection: AbstractConnection) -> None:
    """Open the connection and do its handshake, unless it is open."""
    await connection.connect()  # type: ignore[no-untyped-call]


def _unwrap(error: ResponseError) -> ResponseError:
    """Return `error`, as its own class if it is an OOM or READONLY error that Redis 6.2 wraps in a script's error."""
    for code, kind in (("-OOM ", OutOfMemoryError), ("-READONLY ", ReadOnlyError)):
        if code in str(error):
            return kind(str(error))
    return error


def error_text(error: Exception) -> str:
    """Return what an error means as a sentence for a person, without the text of Redis or of the system."""
    if isinstance(error, OutOfMemoryError):
        return "The store is full. Raise its maxmemory, or delete some of its data."
    if isinstance(error, ACCESS_DENIED):
        return "The store refuses the credentials, or they lack a permission. Check the user, its password and its permissions."
    if isinstance(error, BusyLoadingError):
        return "The store is still loading its data. Try again in a moment."
    if isinstance(error, ResponseError) and any(text in str(error) for text in NO_DATABASE):
        return "The store doesn't have this database. Name another one at the end of its URL; 0 always exists."
    if isinstance(error, ResponseError) and "unknown command" in str(error):
        return "The store doesn't know a required command. Use Redis 6.2 or newer, or Valkey."
    if isinstance(error.__context__, SSLCertVerificationError):
        return "The store's certificate isn't trusted. Name its CA file: rediss://…?ssl_ca_certs=FILE."
    if isinstance(error, RedisTimeoutError):
        return TIMED_OUT
    if isinstance(error, RedisConnectionError | OSError):
        return UNREACHABLE
    if isinstance(error, ReadOnlyError):
        return "The store is read-only now. Try again in a moment, or connect to a writable one."
    return "The store refuses the call now. Try again in a moment."


def _address(connection: Any) -> str:
    if path := getattr(connection, "path", None):
        return str(path)
    return f"{connection.host}:{connection.port}"
