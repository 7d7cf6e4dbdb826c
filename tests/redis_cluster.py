"""A Redis Cluster of three masters with a replica each, which are real processes on loopback.

`RedisCluster.move_slot` migrates a slot, and `kill_master` kills a master.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from tests.programs import program
from tests.redis_process import START_TIMEOUT_S, RedisProcess

SLOTS = 16384
MASTERS = 3
NODE_TIMEOUT_MS = 1000
"""After this time without an answer, a node is considered as failed. The failover follows within a second or two."""


class RedisCluster:
    """The running nodes of a cluster. Their roles change with each failover."""

    def __init__(self, nodes: list[RedisProcess]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        """The URL of all nodes for clients."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def up(self) -> list[RedisProcess]:
        """Return the nodes that run."""
        return [node for node in self.nodes if node.runs]

    def ranges(self) -> list[tuple[int, int, int]]:
        """Return the first and the last slot of each range of slots, and the port of its master."""
        slots = self.up()[0].execute("CLUSTER", "SLOTS")
        return [(first, last, port) for first, last, (_, port, *_), *_ in slots]

    def masters(self) -> list[RedisProcess]:
        """Return the nodes that have slots, according to the first node that runs."""
        ports = {port for _, _, port in self.ranges()}
        return [node for node in self.nodes if node.port in ports]

    def master_of(self, slot: int) -> RedisProcess:
        """Return the node that has the slot."""
        for first, last, port in self.ranges():
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"no node has slot {slot}")

    def execute(self, *command: str | bytes | int) -> Any:
        """Return the reply of the master that has the command's first key."""
        key = command[1].encode() if isinstance(command[1], str) else command[1]
        assert isinstance(key, bytes)
        return self.master_of(key_slot(key)).execute(*command)

    def flush(self) -> None:
        """Delete all data."""
        for master in self.masters():
            master.execute("FLUSHALL")

    def is_ok(self) -> bool:
        """Return whether each node that runs knows a master for each slot, and all masters answer."""
        return all(b"cluster_state:ok" in node.execute("CLUSTER", "INFO") for node in self.up()) and all(
            master.runs for master in self.masters()
        )

    def has_replicas(self) -> bool:
        """Return whether each master has a replica that is in sync."""
        return all(b"state=online" in master.execute("INFO", "REPLICATION") for master in self.masters())

    def begin_move(self, slot: int, to: RedisProcess) -> RedisProcess:
        """Begin the migration of a slot to another master, and return the node that has it."""
        source = self.master_of(slot)
        to.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", source.execute("CLUSTER", "MYID"))
        source.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", to.execute("CLUSTER", "MYID"))
        return source

    def move_keys(self, slot: int, source: RedisProcess, to: RedisProcess, count: int = 1000) -> int:
        """Move up to `count` keys of a slot whose migration has begun, and return their number."""
        keys = source.execute("CLUSTER", "GETKEYSINSLOT", slot, count)
        if keys:
            source.execute("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
        return len(keys)

    def end_move(self, slot: int, to: RedisProcess) -> None:
        """End the migration of a slot, as redis-cli does: first at the target, and at last at the others."""
        name = to.execute("CLUSTER", "MYID")
        for node in [to, *(node for node in self.masters() if node is not to)]:
            node.execute("CLUSTER", "SETSLOT", slot, "NODE", name)

    def move_slot(self, slot: int, to: RedisProcess) -> None:
        """Move a slot with its keys to another master."""
        source = self.begin_move(slot, to)
        while self.move_keys(slot, source, to):
            pass
        self.end_move(slot, to)

    def other_master(self, than: RedisProcess) -> RedisProcess:
        """Return a master that isn't this one."""
        return next(master for master in self.masters() if master is not than)

    def kill_master(self, slot: int) -> RedisProcess:
        """Kill the master of the slot, and return it. Its replica is promoted within about two seconds."""
        master = self.master_of(slot)
        master.kill()
        return master


def wait_until(is_true: Callable[[], bool], timeout_s: float = START_TIMEOUT_S) -> None:
    """Wait until the condition is true. Raises `TimeoutError`."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if is_true():
                return
        except redis.RedisError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError("the condition didn't become true")
        time.sleep(0.05)


@contextmanager
def redis_cluster(folder: Path, *, replicas: int = 1, appendonly: bool = False) -> Iterator[RedisCluster]:
    """Start a cluster of `MASTERS` masters with `replicas` replicas each. On exit, kill its processes."""
    options = ["--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-replica-validity-factor", "0"]
    options += ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]
    with ExitStack() as stack:
        nodes = [
            RedisProcess(folder / f"node{n}", cluster=True, alone=False, appendonly=appendonly, options=options)
            for n in range(MASTERS * (1 + replicas))
        ]
        for node in nodes:
            stack.callback(node.kill)
            node.start()
        addresses = [f"127.0.0.1:{node.port}" for node in nodes]
        create = [str(program("redis-cli")), "--cluster", "create", *addresses, "--cluster-replicas", str(replicas)]
        subprocess.run([*create, "--cluster-yes"], check=True, capture_output=True, timeout=60)
        cluster = RedisCluster(nodes)
        wait_until(cluster.is_ok)
        if replicas:
            wait_until(cluster.has_replicas)
        yield cluster
