"""Calls to Redis, with Redis' errors turned into `StoreError`.

One deadline covers a call, including the wait for a connection and the retries. A call takes one round trip, in a
cluster one per node, and a second one if Redis doesn't know its scripts. `routes.py`, `sentinel.py` and `cluster.py` say
which server runs it, and `node.py` has the connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from ssl import SSLCertVerificationError
from typing import Any

from redis.asyncio.sentinel import MasterNotFoundError
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from store.errors import CLOSED, Damaged, StoreError
from store.redis.cluster import ClusterRoutes, NotACluster
from store.redis.commands import Argument
from store.redis.exchange import Exchange
from store.redis.keys import channel_prefix, encode_text, outbox_bucket_of, user_of_channel, user_prefix
from store.redis.node import CONNECTIONS_MAX, Command, RedisNode, connect
from store.redis.routes import ACCESS_DENIED, OneNode, Routes
from store.redis.scripts import load_scripts
from store.redis.sentinel import NotASentinel, SentinelRoutes
from store.redis.target import parse_target

__all__ = ["CALL_TIMEOUT_S", "CONNECTIONS_MAX", "RedisClient", "RedisPart", "ScriptCall", "connect", "error_text"]

CALL_TIMEOUT_S = 2.2
REPLY_RESERVE_S = 0.2
"""The part of `CALL_TIMEOUT_S` that is reserved for the reply."""
LOADING_ROUNDS = 3
"""How often scripts that a server doesn't know are sent; in a failover, each round may reach another server."""

ScriptCall = tuple[str, bytes, tuple[Argument, ...]]
"""A script's name, its only key, and its arguments."""

UNREACHABLE = "The store can't be reached."
A_SENTINEL = "The server is a Sentinel. Use redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB."
TIMED_OUT = "The store didn't respond in time."
OF_DAMAGE = ("WRONGTYPE", ": attempt to ")
"""What Redis says if a script finds something else than it expects under a key."""
NO_DATABASE = ("DB index is out of range", "invalid DB index", "SELECT is not allowed in cluster mode")


class RedisClient:
    """A client for one Redis, a cluster, or the master that Sentinels name.

    Raises only `StoreError`, whose message has neither the address nor a secret. A durable call waits up to `wait_ms`
    until `wait_replicas` replicas have its writes. `archived`: the scripts note in outboxes what an archive has to store.
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
        self.target = parse_target(url)
        self.tls, self.address = self.target.tls, self.target.address
        self.channels = channel_prefix(self.target.db)
        self.is_sharded = False
        self._load_scripts = partial(
            load_scripts,
            channels=self.channels,
            history_ttl_ms=int(history_ttl_s * 1000),
            log_ttl_ms=int(log_ttl_s * 1000),
            archived=archived,
            retention_days=retention_days,
        )
        self.archived = archived
        self._scripts = self._load_scripts()
        self._wait = ("WAIT", wait_replicas, wait_ms) if wait_replicas else None
        self.cluster: ClusterRoutes | None = None
        self._routes: Routes
        if self.target.kind == "cluster":
            self._routes = self.cluster = ClusterRoutes(self.target, self._load_into)
        else:
            self._routes = SentinelRoutes(self.target) if self.target.kind == "sentinel" else OneNode(self.target)
        self._closed = False

    async def use_cluster(self) -> None:
        """Use the whole cluster, because the server of the URL is one of its nodes."""
        await self._routes.close()
        self._routes = self.cluster = ClusterRoutes(self.target, self._load_into)

    def use_sharded_pubsub(self) -> None:
        """Send each message only to the node that has its channel's slot. All nodes have to be of Redis 7 or newer."""
        self.is_sharded = True
        self._scripts = self._load_scripts(sharded=True)

    def channel_name(self, channel: str) -> bytes:
        """Return the name of the channel in Redis.

        With sharded pub/sub, the channels of a user have the user's hash tag, so that scripts can use them.
        """
        user = user_of_channel(channel) if self.is_sharded else None
        return (self.channels.encode() if user is None else user_prefix(user)) + encode_text(channel)

    async def publish(self, channel: str, payload: bytes) -> None:
        """Send `payload` to the channel's subscribers."""
        command = "SPUBLISH" if self.is_sharded else "PUBLISH"
        await self.command(command, self.channel_name(channel), payload, repeatable=False)

    async def subscriber_node(self, channel: bytes | None) -> RedisNode:
        """Return the node at which to subscribe to the channel with this name; None: any. Raises `StoreError`."""
        if self.cluster is not None and channel is not None:
            node = self.cluster.master_of(key_slot(channel))
            if node is not None:
                return node
        return (await self.masters())[0]

    async def masters(self) -> list[RedisNode]:
        """Return the servers that accept writes. Raises `StoreError` if they can't be determined."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return await self._routes.masters()
        except TimeoutError as error:
            raise StoreError(TIMED_OUT) from error
        except (RedisError, OSError) as error:
            raise StoreError(error_text(error)) from error

    @property
    def known_masters(self) -> list[RedisNode]:
        """The servers that accept writes, as far as they are known."""
        return self._routes.known_masters

    def on_change(self, call: Callable[[], None]) -> None:
        """Call `call` whenever other servers become masters, or slots move."""
        self._routes.on_change = call

    async def renew_topology(self) -> None:
        """Look for the masters again. Return after a moment, even if they aren't known yet."""
        await self._routes.renew()

    async def leave_replica(self) -> None:
        """Close the connections to a server that has become a replica, and look for the new master."""
        await self._routes.leave()

    async def close(self) -> None:
        """Close every idle connection; later calls fail."""
        self._closed = True
        await self._routes.close()

    async def scripts(
        self,
        calls: Sequence[ScriptCall],
        *,
        repeatable: bool = True,
        durable: bool = False,
        hints: Sequence[ScriptCall] = (),
    ) -> list[Any]:
        """Run scripts in one round trip, each atomic by itself, and return their results in order.

        Scripts that Redis doesn't know are sent in a second round trip. If one script fails, the others have run all the
        same, and its error is raised. `repeatable`: running them twice is harmless, so the call is retried if its
        connection breaks. `durable`: wait for the replicas. `hints`: scripts whose results and errors are ignored.
        """
        replies = await self._run_scripts(
            [*calls, *hints], repeatable=repeatable, durable=durable, hasty_from=len(calls)
        )
        return await self._check(replies[: len(calls)])

    async def scripts_of_users(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """Run scripts as `scripts` does. The result of one that finds damaged data is a `Damaged`."""
        replies = await self._run_scripts(calls, hasty_from=len(calls))
        results = [Damaged() if is_of_damage(reply) else reply for reply in replies]
        await self._check([reply for reply in results if not isinstance(reply, Damaged)])
        return results

    async def scripts_apart(self, calls: Iterable[ScriptCall]) -> list[Any]:
        """Run scripts as `scripts` does, but don't wait for a failover. The result of one that fails is its `StoreError`.

        Raises `StoreError` if all of them fail.
        """
        replies = await self._run_scripts(calls, hasty_from=0)
        failed = [reply for reply in replies if isinstance(reply, Exception)]
        if not failed:
            return replies
        if len(failed) == len(replies):
            return await self._check(replies)
        return [StoreError(error_text(reply)) if isinstance(reply, Exception) else reply for reply in replies]

    async def _run_scripts(
        self, calls: Iterable[ScriptCall], *, repeatable: bool = True, durable: bool = False, hasty_from: int = 0
    ) -> list[Any]:
        """Return the replies in order; an error is one of them."""
        wait = self._wait if durable else None
        resolved = [(self._scripts[name], (1, key, *arguments)) for name, key, arguments in calls]
        commands: list[Command] = [("EVALSHA", script.sha, *rest) for script, rest in resolved]
        replies = await self._exchange(Exchange(commands, repeatable=repeatable, wait=wait, hasty_from=hasty_from))
        for _ in range(LOADING_ROUNDS):
            not_loaded = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if not not_loaded:
                break
            # The first call of each script at each server sends its source; then the server knows it for the calls after.
            first: set[tuple[bytes, RedisNode | None]] = set()
            retries: list[Command] = []
            for index in not_loaded:
                script, rest = resolved[index]
                place = script.sha, self._master_of(rest[1])
                retries.append(("EVALSHA", script.sha, *rest) if place in first else ("EVAL", script.source, *rest))
                first.add(place)
            required = sum(1 for index in not_loaded if index < hasty_from)
            again = await self._exchange(Exchange(retries, repeatable=repeatable, wait=wait, hasty_from=required))
            for index, reply in zip(not_loaded, again, strict=True):
                replies[index] = reply
        return replies

    def _master_of(self, key: Argument) -> RedisNode | None:
        """Return the master that has the key, if this is a cluster."""
        return self.cluster.master_of(key_slot(key)) if self.cluster is not None and isinstance(key, bytes) else None

    async def load(self) -> None:
        """Load every script into Redis, so that the first calls need no second round trip."""
        for node in await self.masters():
            await self._check(await self._exchange(Exchange(self._loading(), node=node)))

    async def _load_into(self, node: RedisNode) -> None:
        """Load every script into a new master. A failure is harmless: a call sends what the server doesn't know."""
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await node.round_trip(self._loading(), True)

    def _loading(self) -> list[Command]:
        return [("SCRIPT", "LOAD", script.source) for script in self._scripts.values()]

    async def command(self, *command: Argument, repeatable: bool = True) -> Any:
        """Run one command and return its result. `repeatable`: see `scripts`."""
        return (await self.commands([command], repeatable=repeatable))[0]

    async def commands(self, commands: Sequence[Command], *, repeatable: bool = True) -> list[Any]:
        """Run `commands` in one round trip and return their results in order. Raises the first error.

        `repeatable`: see `scripts`.
        """
        return await self._check(await self._exchange(Exchange(commands, repeatable=repeatable)))

    async def on_each_master(self, *command: Argument) -> list[tuple[RedisNode, Any]]:
        """Run one command on every master. A result is a `StoreError` if the command failed there."""
        masters = await self.masters()
        exchanges = [Exchange([command], node=node) for node in masters]
        replies = await asyncio.gather(*map(self._exchange, exchanges), return_exceptions=True)
        results: list[tuple[RedisNode, Any]] = []
        for node, reply in zip(masters, replies, strict=True):
            error = reply if isinstance(reply, BaseException) else reply[0]
            if isinstance(error, Exception) and not isinstance(error, StoreError):
                error = StoreError(error_text(error))
            results.append((node, error))
        return results

    async def deadline_ms(self, key: bytes) -> int:
        """Return the time by which a script over `key` that begins now has to run, in ms since 1970.

        It is by the clock of the server that has the key. If the script runs later, its reply may come too late, when this
        client has reported the call as failed.
        """
        if self.cluster is None:
            seconds, micros = await self.command("TIME")
        else:
            ((seconds, micros),) = await self._check(await self._exchange(Exchange([("TIME",)], key=key)))
        return int(seconds) * 1000 + int(micros) // 1000 + int((CALL_TIMEOUT_S - REPLY_RESERVE_S) * 1000)

    async def _check(self, replies: list[Any]) -> list[Any]:
        for reply in replies:
            if isinstance(reply, Exception):
                if isinstance(reply, ReadOnlyError):
                    # After a failover the connections lead to the old primary; the host name leads to the new one.
                    await self._routes.leave()
                raise (Damaged() if is_of_damage(reply) else StoreError(error_text(reply))) from reply
        return replies

    async def _exchange(self, exchange: Exchange) -> list[Any]:
        """Return the replies in order; an error with which Redis replied is one of them."""
        if self._closed:
            raise StoreError(CLOSED)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._routes.run(exchange)
        except TimeoutError as error:
            if not exchange.replies:
                raise StoreError(TIMED_OUT) from error
        except (RedisError, OSError) as error:
            raise StoreError(error_text(error)) from error
        return exchange.replies


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

    async def _change_history(
        self,
        user: str,
        calls: list[ScriptCall],
        *,
        repeatable: bool = True,
        durable: bool = False,
        hints: Sequence[ScriptCall] = (),
    ) -> list[Any]:
        """Run scripts that change the user's history and return their results. For the options see `RedisClient.scripts`.

        If there is an archive, first note in the index that the user's outbox is about to be filled. A cluster has the
        index at another node, so this takes a round trip of its own there. Its failure is ignored: the index is for the
        outboxes of dead instances.
        """
        client = self._client
        index = [outbox_index_call(user)] if client.archived else []
        if index and client.cluster is not None:
            await client.scripts([], hints=index)
            index = []
        replies = await client.scripts([*index, *calls], repeatable=repeatable, durable=durable, hints=hints)
        return replies[len(index) :]


def outbox_index_call(user: str) -> ScriptCall:
    """Return the call that adds the user to the index of outboxes."""
    return ("index_outbox", outbox_bucket_of(user), (encode_text(user),))


MEANINGS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (OutOfMemoryError, "The store is full. Raise its maxmemory, or delete some of its data."),
    (
        ACCESS_DENIED,
        "The store refuses the credentials, or they lack a permission. Check the user, its password and its permissions.",
    ),
    (BusyLoadingError, "The store is still loading its data. Try again in a moment."),
    (NotACluster, "The Redis isn't a node of a cluster. Use redis:// instead of redis+cluster://."),
    (
        MasterNotFoundError,
        "No Sentinel that answers knows a running master of this name. Check the name and the Sentinels.",
    ),
    ((AskError, TryAgainError), "The store is moving this data to another node. Try again in a moment."),
    (ClusterDownError, "A part of the cluster has no master now. Try again in a moment."),
    (ReadOnlyError, "The store is read-only now. Try again in a moment, or connect to a writable one."),
    (RedisTimeoutError, TIMED_OUT),
)


def is_of_damage(reply: object) -> bool:
    """Return whether a reply is the error of a script that has found something else than it expects under a key."""
    return isinstance(reply, ResponseError) and any(text in str(reply) for text in OF_DAMAGE)


def error_text(error: Exception) -> str:
    """Return what an error means as a sentence for a person, without the text of Redis or of the system."""
    if isinstance(error, NotASentinel):
        return str(error)
    for kind, text in MEANINGS:
        if isinstance(error, kind):
            return text
    if isinstance(error, ResponseError) and any(text in str(error) for text in NO_DATABASE):
        return "The store doesn't have this database. Name another one at the end of its URL; 0 always exists."
    if isinstance(error, ResponseError) and "unknown command" in str(error):
        return "The store doesn't know a required command. Use Redis 6.2 or newer, or Valkey."
    if isinstance(error.__context__, SSLCertVerificationError):
        return "The store's certificate isn't trusted. Name its CA file: rediss://…?ssl_ca_certs=FILE."
    if isinstance(error, RedisConnectionError | OSError):
        return UNREACHABLE
    return "The store refuses the call now. Try again in a moment."
