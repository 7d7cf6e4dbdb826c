"""Build and run the Go programs: the reverse proxy and the backend of `examples/`, and the client's command."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.credentials import IDENTITY_SECRET, KeyFile
from tests.programs import program

PROJECT = Path(__file__).parents[2]
EXAMPLES = PROJECT / "examples"
MODULE = PROJECT / "clients" / "go"
BUILD_TIMEOUT_S = 120
START_TIMEOUT_S = 10
STOP_TIMEOUT_S = 15
PASSWORDS = {"ann": "ann's password", "bob": "bob's password"}
SESSION_SECRET = "a secret of the tests by which the proxy knows its sessions"


def run_go(source: Path, *arguments: str, timeout_s: float = BUILD_TIMEOUT_S, **variables: str) -> str:
    """Run the `go` command in a folder of a module with further variables, and return its output. A failure is an
    `AssertionError`."""
    done = subprocess.run(
        [program("go"), *arguments],
        cwd=source,
        env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"go {arguments[0]} failed:\n{done.stdout}"
    return done.stdout


def build(source: Path, folder: Path) -> Path:
    """Vet and build a program, and return the path of the binary."""
    binary = folder / source.name
    run_go(source, "vet", ".")
    run_go(source, "build", "-o", str(binary), ".")
    return binary


@pytest.fixture(scope="session")
def go_proxy_binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The proxy, built once per test process."""
    return build(EXAMPLES / "go-proxy", tmp_path_factory.mktemp("go-proxy"))


@pytest.fixture(scope="session")
def go_client_binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's command, built once per test process."""
    return build(MODULE / "cmd" / "ask", tmp_path_factory.mktemp("ask"))


@pytest.fixture(scope="session")
def go_backend_binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The backend, built once per test process."""
    return build(EXAMPLES / "go-backend", tmp_path_factory.mktemp("go-backend"))


def proxy_settings(folder: Path) -> tuple[str, dict[str, str]]:
    """Return the proxy's API key, and the settings of a gateway that accepts it."""
    file = KeyFile(folder)
    return file.add_service("proxy"), {
        "TURNWIRE_AUTH": "keys",
        "TURNWIRE_API_KEYS": str(file.path),
        "TURNWIRE_IDENTITY_SECRET": IDENTITY_SECRET,
    }


class GoProxy:
    """A running proxy. `log` holds the lines that it has written to standard error."""

    def __init__(self, url: str, process: asyncio.subprocess.Process) -> None:
        self.url = url
        self.ws_url = url.replace("http", "ws", 1) + "/ws"
        self.process = process
        self.log: list[str] = []

    async def sign_in(self, name: str) -> str:
        """Sign the user in and return the session. Raises `AssertionError` if the proxy refuses."""
        async with httpx2.AsyncClient(base_url=self.url) as http:
            answer = await http.post("/login", data={"name": name, "password": PASSWORDS[name]})
        assert answer.status_code == 303, answer.text
        return str(answer.cookies["session"])

    async def cookie(self, name: str) -> dict[str, str]:
        """Sign the user in and return the header that the user's browser sends."""
        return {"Cookie": f"session={await self.sign_in(name)}"}


def server_environment(gateway_url: str, key: str, port: int = 0) -> dict[str, str]:
    """Return the variables of the proxy and the backend."""
    return {
        **os.environ,
        "TURNWIRE_URL": gateway_url,
        "TURNWIRE_KEY": key,
        "TURNWIRE_IDENTITY_SECRET": IDENTITY_SECRET,
        "SESSION_SECRET": SESSION_SECRET,
        "USERS": ",".join(f"{name}:{password}" for name, password in PASSWORDS.items()),
        "LISTEN": f"127.0.0.1:{port}",
    }


@asynccontextmanager
async def go_proxy(binary: Path, gateway_url: str, key: str, *, port: int = 0) -> AsyncIterator[GoProxy]:
    """Start the proxy, or the backend, in front of `gateway_url`, by default on a free port.

    On exit, terminate it and wait until it has ended.

    Raises:
        TimeoutError: The proxy did not report its address in time, or did not end in time.
        RuntimeError: The proxy ended instead of listening.
    """
    process = await asyncio.create_subprocess_exec(
        binary,
        env=server_environment(gateway_url, key, port),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        proxy = GoProxy(await _listening_url(process), process)
    except BaseException:
        await stop(process)
        raise
    reader = asyncio.get_running_loop().create_task(follow(process.stderr, proxy.log))
    try:
        yield proxy
    finally:
        await stop(process)
        await reader


async def follow(stream: asyncio.StreamReader | None, log: list[str]) -> None:
    """Append the lines of `stream` to `log`."""
    assert stream is not None
    async for line in stream:
        log.append(line.decode())


async def _listening_url(process: asyncio.subprocess.Process) -> str:
    """Read the program's one line, such as `listening on URL, forwarding to URL`, and return the first URL."""
    assert process.stdout is not None
    async with asyncio.timeout(START_TIMEOUT_S):
        line = (await process.stdout.readline()).decode()
    if not line.startswith("listening on "):
        raise RuntimeError(f"the Go program did not start: {line!r}")
    return line.removeprefix("listening on ").partition(",")[0].strip()


async def stop(process: asyncio.subprocess.Process) -> None:
    """Terminate the process. If it doesn't end in time, kill it and raise `TimeoutError`."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise


class GoClient:
    """A running Go client. `output` is what it has written to standard output (the answer), `events` the lines of
    standard error."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = b""
        self.events: list[str] = []
        self._changed = asyncio.Condition()

    async def read(self) -> None:
        """Collect the standard output until its end."""
        assert self.process.stdout is not None
        while piece := await self.process.stdout.read(4096):
            self.output += piece
            async with self._changed:
                self._changed.notify_all()

    async def wait_for_output(self, size: int, timeout_s: float = 15) -> None:
        """Wait until at least `size` bytes of the answer have been printed."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: len(self.output) >= size)

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    async def ended(self, timeout_s: float = 60) -> int:
        """Wait for the end and return the exit code."""
        async with asyncio.timeout(timeout_s):
            return await self.process.wait()


@asynccontextmanager
async def go_client(binary: Path, url: str, token: str, *arguments: Any) -> AsyncIterator[GoClient]:
    """Run the client with the token on `url` (ws://host:port/ws). On exit, kill it if it still runs."""
    process = await asyncio.create_subprocess_exec(
        binary,
        "-url",
        url,
        *[str(argument) for argument in arguments],
        env={**os.environ, "TURNWIRE_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    made = GoClient(process)
    async with asyncio.TaskGroup() as group:
        group.create_task(made.read())
        group.create_task(follow(process.stderr, made.events))
        try:
            yield made
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
