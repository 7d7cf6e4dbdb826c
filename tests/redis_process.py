"""Private Redis processes that a test may stop, freeze, kill and restart.

A proxy in front of a Redis can cut its connections. `redis_store` opens a store on a Redis.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from store.redis.store import RedisStore
from tests.ports import free_port
from tests.programs import missing, program

PROGRAM = os.environ.get("TEST_REDIS_SERVER", "redis-server")
"""The Redis or Valkey program that the tests run."""
START_TIMEOUT_S = 30


class RedisProcess:
    """A Redis on its own port, with its files in `folder`.

    `appendonly`: acknowledged writes survive a kill. `maxmemory`, such as "10mb": beyond it writes are refused. `cluster`:
    it is a node of a cluster, in which scripts may only use keys of one slot. `alone`: it is the cluster's only node, and
    has all slots. `tls`: only TLS is accepted; the certificate is signed by `authority`, a file beside `folder`.
    `replica_of`: it replicates the Redis at that port. `options`: further arguments of the program.
    """

    def __init__(
        self,
        folder: Path,
        *,
        appendonly: bool = False,
        maxmemory: str | None = None,
        password: str | None = None,
        cluster: bool = False,
        tls: bool = False,
        replica_of: int | None = None,
        alone: bool = True,
        options: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._password = password
        self._tls = tls
        self.port = free_port()
        self.authority = folder.parent / f"{folder.name}-authority.pem"
        self._arguments = ["--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        self._arguments += self._certified() if tls else ["--port", str(self.port)]
        if replica_of is not None:
            self._arguments += ["--replicaof", "127.0.0.1", str(replica_of), "--repl-diskless-sync-delay", "0"]
        if appendonly:
            self._arguments += ["--appendonly", "yes", "--appendfsync", "always"]
        if maxmemory is not None:
            self._arguments += ["--maxmemory", maxmemory, "--maxmemory-policy", "noeviction"]
        self._cluster = cluster
        if cluster:
            # The default cluster port is `port` + 10,000, which may be in the range of ephemeral ports.
            self._arguments += ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        if password is not None:
            self._arguments += ["--requirepass", password]
        self._alone = alone
        self._arguments += options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Whether the process runs."""
        return self._process is not None

    @property
    def url(self) -> str:
        """The URL for clients, with the password if there is one."""
        secret = "" if self._password is None else f":{self._password}@"
        if self._tls:
            return f"rediss://{secret}127.0.0.1:{self.port}/0?ssl_ca_certs={self.authority}"
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    def _certified(self) -> list[str]:
        """Create an authority and a certificate, and return the arguments that use them."""
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(str(self.authority))
        held = self.authority.with_name("redis-key-and-certificate.pem")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(held))
        files = ["--tls-cert-file", str(held), "--tls-key-file", str(held), "--tls-ca-cert-file", str(self.authority)]
        return ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no", *files]

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the Redis, or for Valkey the version of Redis that it is compatible with."""
        version = re.search(rb"redis_version:([\d.]+)", self.execute("INFO", "SERVER"))
        assert version is not None
        return tuple(int(part) for part in version.group(1).split(b"."))

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None, "it isn't running"
        return self._process.pid

    def start(self) -> None:
        """Start the process and wait until it answers. Raises `RuntimeError` if it ends or doesn't answer in time."""
        assert self._process is None, "it is running"
        log = (self._folder / "redis.log").open("ab")
        with log:
            self._process = subprocess.Popen([PROGRAM, *self._arguments], stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError("Redis did not start:\n" + (self._folder / "redis.log").read_text())
            time.sleep(0.01)

        if self._cluster and self._alone and self.execute("CLUSTER", "INFO").count(b"cluster_state:ok") == 0:
            self.execute("CLUSTER", "ADDSLOTS", *range(16384))
            while self.execute("CLUSTER", "INFO").count(b"cluster_state:ok") == 0:
                time.sleep(0.01)

    def execute(self, *command: str | bytes | int) -> Any:
        """Return the reply to a command, on a new connection."""
        with redis.Redis.from_url(self.url, protocol=2) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def keys(self) -> list[bytes]:
        """Return all keys."""
        found: list[bytes] = self.execute("KEYS", "*")
        return found

    def _answers(self) -> bool:
        try:
            return bool(self.execute("PING"))
        except redis.RedisError:
            return False

    def stop(self) -> None:
        """Terminate the process."""
        if self._process is not None:
            self.thaw()
            self._process.terminate()
            self._process.wait(START_TIMEOUT_S)
            self._process = None

    def kill(self) -> None:
        """Kill the process, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_TIMEOUT_S)
            self._process = None

    def written(self) -> tuple[Path, int]:
        """Return the newest append-only file and its size in bytes.

        With `appendonly`, it has everything that Redis has acknowledged.
        """
        newest = max(self._folder.glob("**/*.aof"), key=lambda path: path.stat().st_mtime_ns)
        return newest, newest.stat().st_size

    def roll_back(self, to: tuple[Path, int]) -> None:
        """Kill the process and truncate its append-only file to `to`, an earlier result of `written`.

        A crash of the machine can truncate the file in the same way.
        """
        self.kill()
        path, length = to
        assert path.stat().st_size >= length
        os.truncate(path, length)

    def freeze(self) -> None:
        """Stop the process with SIGSTOP: its connections stay open, and it answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue the process."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, *, with_data: bool = True) -> None:
        """Kill the process and start it again. With `with_data` false, delete its files first."""
        self.kill()
        if not with_data:
            shutil.rmtree(self._folder)
            self._folder.mkdir()
        self.start()


def require_tls() -> None:
    """Fail the test in CI, or skip it elsewhere, if this Redis was built without TLS.

    If it was built with TLS, its only error here is that it has no certificate.
    """
    refused = subprocess.run([PROGRAM, "--port", "0", "--tls-port", "1"], capture_output=True, check=False, timeout=10)
    output = refused.stdout + refused.stderr
    if b"Bad directive" in output or b"Missing implement" in output:
        missing("a Redis that was built with TLS")


@contextmanager
def redis_process(
    folder: Path,
    *,
    appendonly: bool = False,
    maxmemory: str | None = None,
    password: str | None = None,
    cluster: bool = False,
    tls: bool = False,
    replica_of: int | None = None,
) -> Iterator[RedisProcess]:
    """Start a Redis. On exit, kill it."""
    program(PROGRAM)
    process = RedisProcess(
        folder,
        appendonly=appendonly,
        maxmemory=maxmemory,
        password=password,
        cluster=cluster,
        tls=tls,
        replica_of=replica_of,
    )
    try:
        process.start()
        yield process
    finally:
        process.kill()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisProcess]:
    """An empty Redis for one test."""
    with redis_process(tmp_path / "redis") as process:
        yield process


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A Redis for tests that neither stop nor reconfigure it."""
    with redis_process(tmp_path_factory.mktemp("redis")) as process:
        yield process


class CuttableProxy:
    """A proxy in front of a Redis. Clients connect to `url`, and `cut` cuts off the next replies.

    `lead_to` makes it an address that leads to another server from now on; open connections stay where they are.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._cuts = 0
        self._pass_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._open_to: Counter[int] = Counter()
        self.url = ""

    def lead_to(self, port: int) -> None:
        """Connect new clients to the server at `port`."""
        self._target_port = port

    def connections_to(self, port: int) -> int:
        """Return the number of open connections to the server at `port`."""
        return self._open_to[port]

    def cut(self, replies: int = 1, *, pass_bytes: int = 0) -> None:
        """Cut the next `replies` after `pass_bytes` bytes and close their connections. Redis has executed the commands
        by then."""
        self._cuts, self._pass_bytes = replies, pass_bytes

    def drop_all(self) -> None:
        """Close every connection now."""
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        port = self._target_port
        try:
            from_redis, to_redis = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, to_redis}
        self._open_to[port] += 1
        to_redis_task = asyncio.get_running_loop().create_task(self._relay(reader, to_redis, cuttable=False))
        from_redis_task = asyncio.get_running_loop().create_task(self._relay(from_redis, writer, cuttable=True))
        self._tasks |= {to_redis_task, from_redis_task}
        await asyncio.wait([to_redis_task, from_redis_task], return_when=asyncio.FIRST_COMPLETED)
        writer.close()
        to_redis.close()
        await asyncio.wait([to_redis_task, from_redis_task])
        self._open_to[port] -= 1
        self._tasks -= {to_redis_task, from_redis_task}
        self._writers -= {writer, to_redis}

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cuttable: bool) -> None:
        try:
            while data := await reader.read(65536):
                if cuttable and self._cuts:
                    self._cuts -= 1
                    writer.write(data[: self._pass_bytes])
                    await writer.drain()
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass


@asynccontextmanager
async def cuttable_proxy(server: RedisProcess) -> AsyncIterator[CuttableProxy]:
    """Start a proxy to `server`. On exit, close it."""
    proxy = CuttableProxy(server.port)
    listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    proxy.url = server.url.replace(f":{server.port}/", f":{port}/")
    try:
        yield proxy
    finally:
        listener.close()
        proxy.drop_all()
        async with asyncio.timeout(5):
            while proxy._tasks:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def redis_store(url: str, **options: Any) -> AsyncIterator[RedisStore]:
    """Open a store on a Redis. On exit, close it."""
    store = RedisStore(url, **options)
    try:
        await store.open()
        yield store
    finally:
        await store.close()
