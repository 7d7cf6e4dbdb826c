"""Routes in a Redis Cluster: each command goes to the master of its key's slot.

The commands of one exchange take one round trip per master, in parallel. Commands that a node refuses because their slot
has moved, moves, or has no master, and those whose connection is lost, are sent again until the call's time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog
from redis.asyncio.cluster import ClusterNode, NodesManager
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from store.redis.exchange import Exchange
from store.redis.node import Command, RedisNode
from store.redis.routes import ACCESS_DENIED, LOST, RETRIES, failover_delay_s, ignore, topology_options
from store.redis.shared_task import SharedTask
from store.redis.target import Target

log = structlog.stdlib.get_logger("turnwire.store")

SLOTS = 16384
NO_HOST = "?"
"""What Redis answers as the host of a node if it is set to announce host names and doesn't know that of the node."""
RENEWAL_PAUSE_S = 0.1
"""The least time between two looks at the topology. Each occupies the event loop for about 5 ms."""

KEYLESS = frozenset({"HELLO", "PING", "TIME", "INFO", "SCRIPT", "PUBLISH", "DBSIZE"})
SCRIPT = frozenset({"EVALSHA", "EVAL"})
NOT_NOW = (TryAgainError, ClusterDownError, ReadOnlyError)
"""Replies of a node that hasn't run the command. The node itself or another one may run it later."""


class NotACluster(RedisError):
    """The server isn't a node of a cluster."""


class ClusterRoutes:
    """Routes to the masters of a cluster. `on_master` is called with each new one, for example to load the scripts."""

    def __init__(self, target: Target, on_master: Callable[[RedisNode], Coroutine[Any, Any, None]]) -> None:
        self._target = target
        self._on_master = on_master
        self._nodes: dict[tuple[str, int], RedisNode] = {}
        self._masters: list[RedisNode] = []
        self._slots: list[RedisNode | None] = [None] * SLOTS
        self._is_outdated = True
        self._renewal = SharedTask()
        self._renewed_at = 0.0
        self._failed: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_change: Callable[[], None] = ignore

    async def run(self, exchange: Exchange) -> None:
        """See `Routes`. Each command that fails has its error as its reply."""
        count = len(exchange.commands)
        exchange.replies = [RedisTimeoutError()] * count
        if not self._masters:
            await self._renewal.run(self._discover)
        elif self._is_outdated:
            self._renewal.start(self._discover)
        await self._deliver(exchange, range(count), 0)

    async def masters(self) -> list[RedisNode]:
        """See `Routes`."""
        if not self._masters:
            await self._renewal.run(self._discover)
        return self._masters

    @property
    def known_masters(self) -> list[RedisNode]:
        """See `Routes`."""
        return self._masters

    def master_of(self, slot: int) -> RedisNode | None:
        """Return the master of slot number `slot`; None if it isn't known."""
        return self._slots[slot]

    def uncovered(self) -> list[tuple[int, int]]:
        """Return the ranges of slots that have no master, each with its first and last slot."""
        ranges: list[tuple[int, int]] = []
        for slot, node in enumerate(self._slots):
            if node is None:
                if ranges and ranges[-1][1] == slot - 1:
                    ranges[-1] = (ranges[-1][0], slot)
                else:
                    ranges.append((slot, slot))
        return ranges

    def slots_of(self, node: RedisNode) -> int:
        """Return the number of slots that the node has."""
        return sum(1 for one in self._slots if one is node)

    def moved(self, error: MovedError, by: RedisNode) -> RedisNode | None:
        """Note that a slot has moved, and return its master if the error names it. `by`: the node that said so."""
        self._is_outdated = True
        address = self._address(error, by)
        if address is None:
            return None
        node = self._node(*address)
        if self._slots[error.slot_id] is not node:
            self._slots[error.slot_id] = node
            self.on_change()
        return node

    async def _deliver(self, exchange: Exchange, indexes: Iterable[int], attempt: int) -> None:
        groups: dict[RedisNode | None, list[int]] = {}
        for index in indexes:
            node = exchange.redirected.get(index) or exchange.node or self._route(exchange, exchange.commands[index])
            groups.setdefault(node, []).append(index)
        if len(groups) == 1:
            ((node, group),) = groups.items()
            await self._send(exchange, node, group, attempt)
        else:
            await asyncio.gather(*(self._send(exchange, node, group, attempt) for node, group in groups.items()))

    def _route(self, exchange: Exchange, command: Command) -> RedisNode | None:
        key = key_of(command) or exchange.key
        return self._slots[key_slot(key)] if key is not None else self._masters[0]

    async def _send(self, exchange: Exchange, node: RedisNode | None, indexes: list[int], attempt: int) -> None:
        """Send these commands to `node`, set their replies, and deliver again those that weren't run."""
        try:
            if node is None:
                raise ClusterDownError("a slot has no master")
            replies = await self._ask(exchange, node, indexes)
        except asyncio.CancelledError:
            self._is_outdated = True  # the time may be over because the node is frozen
            raise
        except ACCESS_DENIED as error:
            _set(exchange, indexes, error)
            return
        except (*LOST, ClusterDownError) as error:
            _set(exchange, indexes, error)
            self._is_outdated = True
            if node is not None:
                self._failed = node.address
                await node.drop_idle()
                if not exchange.repeatable or exchange.node is not None:
                    return
            again, at_once = indexes, False
        else:
            again, at_once = self._sort(exchange, node, indexes, replies)
        if attempt >= RETRIES:
            again = [index for index in again if index < exchange.required_count]
        if not again:
            return
        if not at_once or attempt > 1:
            await asyncio.sleep(failover_delay_s(attempt))
            if self._is_outdated:
                await self._renewal.run_briefly(self._discover)
        await self._deliver(exchange, again, attempt + 1)

    async def _ask(self, exchange: Exchange, node: RedisNode, indexes: list[int]) -> list[Any]:
        """Do the round trip. An ASKING is sent before each command that another node has redirected here by ASK."""
        if not exchange.redirected:
            return await exchange.send(node, [exchange.commands[index] for index in indexes])
        commands: list[Command] = []
        places: list[int] = []
        for index in indexes:
            exchange.redirected.pop(index, None)
            if index in exchange.asking:
                exchange.asking.discard(index)
                commands.append(("ASKING",))
            places.append(len(commands))
            commands.append(exchange.commands[index])
        replies = await exchange.send(node, commands)
        return [replies[place] for place in places]

    def _sort(
        self, exchange: Exchange, node: RedisNode, indexes: list[int], replies: list[Any]
    ) -> tuple[list[int], bool]:
        """Set the replies. Return the commands that are to be sent again, and whether that needs no delay."""
        again: list[int] = []
        at_once = True
        for index, reply in zip(indexes, replies, strict=True):
            exchange.replies[index] = reply
            if not isinstance(reply, ResponseError):
                continue
            if isinstance(reply, MovedError):
                moved_to = self.moved(reply, node)
                if moved_to is not None:
                    exchange.redirected[index] = moved_to
                again.append(index)
            elif isinstance(reply, AskError):
                # A script over a user's keys needs all of them, and some are at one node and some at the other. It waits
                # until the slot has moved.
                address = None if uses_many_keys(exchange.commands[index]) else self._address(reply, node)
                if address is None:
                    at_once = False
                else:
                    exchange.redirected[index] = self._node(*address)
                    exchange.asking.add(index)
                again.append(index)
            elif isinstance(reply, NOT_NOW):
                self._is_outdated = self._is_outdated or not isinstance(reply, TryAgainError)
                at_once = False
                again.append(index)
        return again, at_once

    def _address(self, error: AskError, by: RedisNode) -> tuple[str, int] | None:
        """Return the address that a redirection names. An empty host is that of the node that redirects."""
        if error.host == NO_HOST:
            return None
        return error.host or by.host, error.port

    def _node(self, host: str, port: int) -> RedisNode:
        node = self._nodes.get((host, port))
        if node is None:
            node = self._nodes[host, port] = RedisNode(self._target, (host, port))
        return node

    async def _discover(self) -> None:
        """Ask the nodes for the master of each slot. Raises an error of redis-py, or `NotACluster`."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._renewed_at + RENEWAL_PAUSE_S - loop.time())
        options = {
            **self._target.options,
            **topology_options(),
            "connection_class": self._target.connection_class,
        }
        known = dict.fromkeys([*((node.host, node.port) for node in self._masters), *self._target.hosts])
        manager = NodesManager(
            [ClusterNode(host, port, **options) for host, port in known],
            require_full_coverage=False,
            connection_kwargs=options,
            dynamic_startup_nodes=False,
        )
        failed, self._failed, self._is_outdated = self._failed, None, False
        failure: Exception | None = None
        try:
            await manager.initialize(last_failed_node_name=failed)
            self._apply(
                {slot: (self._host(nodes[0]), int(nodes[0].port)) for slot, nodes in manager.slots_cache.items()}
            )
        except RedisClusterException as error:
            self._is_outdated = True
            failure = _cause(error)
        except BaseException:
            self._is_outdated = True
            raise
        finally:
            self._renewed_at = loop.time()
            await manager.aclose("startup_nodes")
        if failure is not None:
            raise failure  # not in `except`: that would replace its context, such as an untrusted certificate

    def _host(self, node: ClusterNode) -> str:
        """Return the node's host. A node that announces none is reached at the host of the URL, by its own port."""
        return node.host or self._target.hosts[0][0]

    def _apply(self, found: dict[int, tuple[str, int]]) -> None:
        before = self._slots
        self._slots = [self._node(*found[slot]) if slot in found else None for slot in range(SLOTS)]
        masters = list(dict.fromkeys(node for node in self._slots if node is not None))
        if self._masters:
            for new in set(masters).difference(self._masters):
                log.info("Redis Cluster has a new master", masters=len(masters))
                self._spawn(self._on_master(new))
        self._masters = masters
        for address, node in list(self._nodes.items()):
            if node not in masters:
                del self._nodes[address]
                self._spawn(node.close())
        if self._slots != before:
            self.on_change()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def renew(self) -> None:
        """See `Routes`."""
        self._is_outdated = True
        await self._renewal.run_briefly(self._discover)

    async def leave(self) -> None:
        """See `Routes`."""
        await self.renew()

    async def close(self) -> None:
        """See `Routes`."""
        await self._renewal.close()
        for task in self._tasks:
            task.cancel()
        for node in self._nodes.values():
            await node.close()


def key_of(command: Command) -> bytes | None:
    """Return the key that decides which node runs `command`; None if any node can."""
    name = command[0]
    if name in KEYLESS:
        return None
    key = command[3] if name in SCRIPT else command[1]
    assert isinstance(key, bytes)
    return key


def uses_many_keys(command: Command) -> bool:
    """Return whether `command` is a script over the keys with a user's prefix, which is its only declared key."""
    key = key_of(command)
    return command[0] in SCRIPT and key is not None and key.endswith(b"}:")


def _set(exchange: Exchange, indexes: list[int], error: Exception) -> None:
    for index in indexes:
        exchange.replies[index] = error


def _cause(error: BaseException) -> Exception:
    """Return the error of redis-py that caused the failure of a look at the topology."""
    seen: BaseException | None = error
    found: Exception | None = None
    while seen is not None:
        # A Sentinel doesn't know CLUSTER.
        if "cluster support disabled" in str(seen) or "unknown command" in str(seen):
            return NotACluster("not a cluster")
        if found is None and isinstance(seen, RedisError | OSError):
            found = seen
        seen = seen.__cause__ or seen.__context__
    return found or RedisConnectionError("no node can be reached")
