"""Start gateways by forking a process that has already imported everything, which saves the imports in each test.

A forked process runs the `turnwire` command, with its own arguments, environment and output.

`python -m tests.gateway_forks FD` is the process that has imported everything; `Imported` starts it. Its clients are
`ForkServer`s: for each of them, it forks a process, which then forks the gateways of this client.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from providers.catalog import costs
from providers.catalog.schema import shipped_rows

ROOT = Path(__file__).parents[1]
IMPORTED = (
    *("gateway.commands.command_line", "gateway.app", "gateway.server", "gateway.supervisor"),
    *("gateway.identity.tokens", "gateway.telemetry.logs"),
    *("providers.anthropic.messages", "providers.openai.chat", "providers.openai.responses"),
    # Modules that a gateway imports after it is ready, or for a turn or a signal.
    *("providers.demo.model", "openai.resources.chat.completions", "openai.resources.responses"),
    *("anthropic.resources.messages", "genai_prices.data_snapshot", "httpcore2", "truststore", "stringprep"),
    *("uvicorn.lifespan.on", "uvicorn.loops.uvloop"),
    # Modules of a gateway with a Redis or an archive, and of its upgrade.
    *("store.redis.store", "store.archive.archived_store", "store.archive.sql_archive", "store.archive.upgrade"),
    *("asyncpg", "aiosqlite"),
)
ORDER_BYTES_MAX = 1 << 18


class Process(Protocol):
    """The part of `asyncio.subprocess.Process` that the tests use."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    @property
    def stdout(self) -> asyncio.StreamReader | None: ...
    async def wait(self) -> int: ...
    def send_signal(self, signal: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


@dataclass
class Forked:
    """A process that the fork server has started."""

    pid: int
    stdout: asyncio.StreamReader | None
    _ended: Future[int] = field(repr=False)
    _pipe: asyncio.ReadTransport = field(repr=False)

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negative number of the signal that ended it; None while it runs."""
        return self._ended.result() if self._ended.done() and self._ended.exception() is None else None

    async def wait(self) -> int:
        """Wait for the end and return the exit code."""
        return await asyncio.shield(asyncio.wrap_future(self._ended))

    def close(self) -> None:
        """Close the pipe of its output."""
        self._pipe.close()

    def send_signal(self, signal: int) -> None:
        """Send a signal if the process still runs."""
        if not self._ended.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Imported:
    """A process that has imported everything, for one or more `ForkServer`s. They connect to it at `address`."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.address = str(Path(self._folder.name) / "forks")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(self.address)
            listening.listen()
            command = [sys.executable, "-m", "tests.gateway_forks", str(listening.fileno())]
            fds = [listening.fileno()]
            self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=fds, stdin=subprocess.PIPE)

    def stop(self) -> None:
        """Wait until its `ForkServer`s have ended, and end it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


class ForkServer:
    """The process that forks gateways for this process, and the gateways' exit codes. The forking process is itself a
    fork of the `Imported` at `address`."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.connect(address)
        self._started: dict[int, Future[int]] = {}
        self._ended: dict[int, Future[int]] = {}
        self._orders = 0
        self._lock = threading.Lock()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    async def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
        limit: int,
        errors: int | None = None,
    ) -> Forked:
        """Run the `turnwire` command. `limit` is the maximum length of a line of its output in bytes. `errors` is the
        file descriptor of its standard error, which by default is part of its output. Raises `OSError`."""
        reading, writing = os.pipe()
        try:
            with self._lock:
                self._orders += 1
                number = self._orders
                started = self._started[number] = Future()
                order = {"number": number, "arguments": arguments, "environment": dict(environment), "cwd": str(cwd)}
                fds = [writing, writing if errors is None else errors]
                socket.send_fds(self._socket, [json.dumps(order).encode()], fds)
            pid = await asyncio.wrap_future(started)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        stdout = asyncio.StreamReader(limit)
        loop = asyncio.get_running_loop()
        pipe, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stdout), os.fdopen(reading, "rb", 0)
        )
        return Forked(pid, stdout, self._ended[pid], pipe)

    def stop(self) -> None:
        """End the server and every forked process that still runs."""
        self._socket.shutdown(socket.SHUT_WR)
        self._listener.join()  # until the server's end closes the socket
        self._socket.close()

    def _listen(self) -> None:
        try:
            self._receive()
        finally:
            for pending in [*self._started.values(), *self._ended.values()]:
                if not pending.done():
                    pending.set_exception(ConnectionResetError("the process that forks gateways has ended"))

    def _receive(self) -> None:
        with suppress(OSError):
            while data := self._socket.recv(1 << 12):
                message: dict[str, int] = json.loads(data)
                if "number" in message:
                    self._ended[message["pid"]] = Future()
                    self._started.pop(message["number"]).set_result(message["pid"])
                else:
                    self._ended[message["pid"]].set_result(message["code"])


def _serve(orders: socket.socket) -> dict[str, Any] | None:
    """Fork a process for each order until the client closes its end of the socket.

    An order describes a process to start: arguments, environment and working folder. Return the order in the forked
    process, and None in the server.
    """
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: set[int] = set()
    while True:
        ready, _, _ = select.select([orders, woken], [], [])
        if woken in ready:
            with suppress(BlockingIOError):
                woken.recv(1 << 12)
            while running:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                running.discard(pid)
                with suppress(OSError):
                    orders.send(json.dumps({"pid": pid, "code": os.waitstatus_to_exitcode(status)}).encode())
        if orders in ready:
            order, fds, _, _ = socket.recv_fds(orders, ORDER_BYTES_MAX, 2)
            if not order:
                for pid in running:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                return None
            wanted: dict[str, Any] = json.loads(order)
            output, errors = fds
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for each in (orders, woken, wake):
                    each.close()
                os.dup2(output, 1)
                os.dup2(errors, 2)
                os.close(output)
                os.close(errors)
                return wanted
            os.close(output)
            os.close(errors)
            running.add(pid)
            with suppress(OSError):  # the client has closed; the next read ends the loop
                orders.send(json.dumps({"number": wanted["number"], "pid": pid}).encode())


def _serve_each(listening: socket.socket) -> dict[str, Any] | None:
    """For each client, fork a process that serves it, until the standard input is closed. See `_serve`."""
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        if listening not in ready:
            break
        orders, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            with open(os.devnull, "rb") as nothing:
                os.dup2(nothing.fileno(), 0)
            return _serve(orders)
        orders.close()
    with suppress(ChildProcessError):
        while True:
            os.wait()
    return None


def _make_gateway() -> None:
    """Make a gateway that isn't started, so that regular expressions and types that it caches are cached for all gateways."""
    os.environ.clear()  # each forked process gets its own
    settings = import_module("gateway.settings").Settings(store="sqlite:///:memory:")
    import_module("gateway.app").Gateway(settings, {})


def _main() -> None:
    for name in IMPORTED:
        import_module(name)
    costs.load()
    shipped_rows()
    _make_gateway()
    gc.collect()
    gc.freeze()
    order = _serve_each(socket.socket(fileno=int(sys.argv[1])))
    if order is None:
        os._exit(0)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.argv = ["turnwire", *order["arguments"]]
    random.seed()
    _run(import_module("gateway.commands.command_line").main)


def _run(main: Callable[[], None]) -> None:
    """Run `main` and end the process. The interpreter's objects aren't freed one by one, as that would take as long as the
    start. Threads are awaited, exit handlers run, and warnings about unclosed objects are printed, as always."""
    code = 0
    try:
        main()
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        code = end.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _main()
