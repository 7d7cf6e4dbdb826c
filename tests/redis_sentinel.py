"""Sentinels that watch a Redis and its replica, as real processes on loopback."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.ports import free_port
from tests.programs import program
from tests.redis_cluster import wait_until
from tests.redis_process import PROGRAM, START_TIMEOUT_S, RedisProcess


class SentinelSetup:
    """A master with a replica, and three Sentinels that know the master as "turnwire"."""

    def __init__(self, master: RedisProcess, replica: RedisProcess, ports: list[int]) -> None:
        self.master = master
        self.replica = replica
        self.ports = ports

    @property
    def url(self) -> str:
        """The URL for clients."""
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in self.ports) + "/turnwire/0"

    def knows_master(self, port: int) -> bool:
        """Return whether all Sentinels name the Redis at this port as the master."""
        return all(
            self._ask(one).sentinel_get_master_addr_by_name("turnwire") == ("127.0.0.1", port) for one in self.ports
        )

    def is_ready(self) -> bool:
        """Return whether each Sentinel knows the replica and the other Sentinels."""
        for port in self.ports:
            sentinel = self._ask(port)
            masters: Any = sentinel.sentinel_masters()
            state = masters["turnwire"]
            if state["num-slaves"] != 1 or state["num-other-sentinels"] != len(self.ports) - 1:
                return False
        return b"state=online" in self.master.execute("INFO", "REPLICATION")

    @staticmethod
    def _ask(port: int) -> redis.Redis:
        return redis.Redis(port=port, decode_responses=True, protocol=2)


@contextmanager
def sentinel_setup(folder: Path) -> Iterator[SentinelSetup]:
    """Start a master, a replica and three Sentinels. On exit, kill them."""
    quick = ["--repl-diskless-sync-delay", "0"]
    with ExitStack() as stack:
        master = RedisProcess(folder / "master", options=quick)
        stack.callback(master.kill)
        master.start()
        replica = RedisProcess(folder / "replica", replica_of=master.port)
        stack.callback(replica.kill)
        replica.start()
        ports = [free_port() for _ in range(3)]
        for port in ports:
            settings = folder / f"sentinel-{port}.conf"
            settings.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/sentinel-{port}.log\n"
                f"sentinel monitor turnwire 127.0.0.1 {master.port} 2\n"
                "sentinel down-after-milliseconds turnwire 800\nsentinel failover-timeout turnwire 3000\n"
            )
            process = subprocess.Popen([program(PROGRAM), str(settings), "--sentinel"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        setup = SentinelSetup(master, replica, ports)
        wait_until(setup.is_ready)
        yield setup


@contextmanager
def sentinel_process(folder: Path, primary: RedisProcess) -> Iterator[redis.Redis]:
    """Start a Sentinel that watches `primary` under the name "turnwire", and yield a client of the Sentinel.

    `primary` must have one replica: the Sentinel has started when it knows this replica. On exit, kill the Sentinel. Raises
    `RuntimeError` if the Sentinel ends or doesn't know the replica in time.
    """
    port = free_port()
    folder.mkdir()
    settings = folder / "sentinel.conf"
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/sentinel.log\n"
        f"sentinel monitor turnwire 127.0.0.1 {primary.port} 1\nsentinel down-after-milliseconds turnwire 1000\n"
    )
    process = subprocess.Popen([program(PROGRAM), str(settings), "--sentinel"])
    try:
        with redis.Redis(port=port, decode_responses=True) as client:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not _knows_replica(client):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("Sentinel did not start:\n" + (folder / "sentinel.log").read_text())
                time.sleep(0.05)
            yield client
    finally:
        process.kill()
        process.wait(START_TIMEOUT_S)


def _knows_replica(sentinel: redis.Redis) -> bool:
    try:
        (replica,) = sentinel.sentinel_slaves("turnwire")
    except (redis.RedisError, ValueError):
        return False
    return bool(replica["flags"] == "slave" and replica["master-link-status"] == "ok")
