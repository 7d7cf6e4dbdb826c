"""Run a real gateway as a separate process, as an operator would."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.gateway_forks import Forked, ForkServer, Imported, Process

ROOT = Path(__file__).parents[1]
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 45
KEY_VARIABLE = re.compile(r"_API_KEY$|_BASE_URL$|^TURNWIRE_(?!RECORDED)|^HOST$|^PORT$|^REDIS_|^OTEL_")
LINE_BYTES_MAX = 2**20
FORKED = os.environ.get("TESTS_FORK") != "0"
"""Whether gateways are forked. For coverage, each starts as a new interpreter instead."""
FORKS_VARIABLE = "TESTS_FORK_ADDRESS"
"""The variable by which workers find the process from which gateways are forked."""


class Forks:
    """The processes that fork the gateways of this test process. They are started for the first gateway."""

    def __init__(self) -> None:
        self._imported: Imported | None = None
        self._server: ForkServer | None = None

    def address(self) -> str:
        """Return the address of the `Imported` of this test run, or start one."""
        if address := os.environ.get(FORKS_VARIABLE):
            return address
        if self._imported is None:
            self._imported = Imported()
        return self._imported.address

    def open(self) -> ForkServer | None:
        """Start the process that forks if it doesn't run, and return it. Return None if gateways aren't forked."""
        if self._server is None and FORKED:
            self._server = ForkServer(self.address())
        return self._server

    def close(self) -> None:
        """End what was started."""
        if self._server is not None:
            self._server.stop()
        if self._imported is not None:
            self._imported.stop()
        self._server = self._imported = None


FORKS = Forks()


@dataclass
class GatewayProcess:
    """A running gateway. `log` holds the lines that it has written."""

    url: str
    process: Process
    ready_line: str
    log: list[str] = field(default_factory=list, repr=False)

    @property
    def ws_url(self) -> str:
        """The URL of its WebSocket endpoint."""
        return self.url.replace("http", "ws", 1) + "/ws"

    def terminate(self) -> None:
        """Send SIGTERM, as a deploy does."""
        self.process.send_signal(signal.SIGTERM)

    async def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for the end and return the exit code."""
        async with asyncio.timeout(timeout_s):
            return await self.process.wait()


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without API keys, settings and a developer's `.env`, and with `extra`."""
    kept = {name: value for name, value in os.environ.items() if not KEY_VARIABLE.search(name)}
    return {**kept, "PYTHONUNBUFFERED": "1", "TURNWIRE_ENV_FILE": "", **extra}


@asynccontextmanager
async def gateway_process(
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *arguments: str,
    store: str | None = None,
    allow_kill: bool = False,
    fresh: bool = False,
) -> AsyncIterator[GatewayProcess]:
    """Start a gateway on a free port with its store in `folder`. On exit, stop it.

    `allow_kill`: on exit, the gateway may have to be killed because it doesn't end in time. `fresh`: start a new
    interpreter, even if gateways are forked.

    Raises:
        RuntimeError: The gateway ended, or wasn't ready in time. The message has its output.
        TimeoutError: The gateway was killed on exit without `allow_kill`.
    """
    command = ["serve", "--port", "0", "--store", store or f"sqlite:///{folder / 'turnwire.db'}", *arguments]
    variables = clean_environment(environment or {})
    process: Process
    fork_server = None if fresh else FORKS.open()
    if fork_server is not None:
        process = await fork_server.start(command, variables, ROOT, LINE_BYTES_MAX)
    else:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", *command),
            env=variables,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LINE_BYTES_MAX,
        )
    async with until_ready(process, allow_kill=allow_kill) as gateway:
        yield gateway


@asynccontextmanager
async def until_ready(process: Process, *, allow_kill: bool = False) -> AsyncIterator[GatewayProcess]:
    """Wait until a gateway's process, whose output is a pipe, is ready. On exit, stop it; see `gateway_process`."""
    log: list[str] = []
    try:
        ready = await _ready_line(process, log)
    except BaseException:
        await stop_process(process)
        raise
    found = re.search(r"https?://\S+", ready)
    assert found is not None, ready
    reader = asyncio.get_running_loop().create_task(_follow(process, log))
    try:
        yield GatewayProcess(found.group(), process, ready, log)
    finally:
        await stop_process(process, allow_kill=allow_kill)
        await reader
        if isinstance(process, Forked):
            process.close()


async def _ready_line(process: Process, log: list[str]) -> str:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            async for line in process.stdout:
                log.append(line.decode())
                if log[-1].startswith("Turnwire is ready"):
                    return log[-1]
    except TimeoutError:
        log.append("(not ready in time)")
    raise RuntimeError("The gateway did not start:\n" + "".join(log))


async def _follow(process: Process, log: list[str]) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        log.append(line.decode())


async def stop_process(process: Process, timeout_s: float = STOP_TIMEOUT_S, *, allow_kill: bool = False) -> None:
    """Terminate the process. If it doesn't end in time, kill it and, unless `allow_kill`, raise `TimeoutError`."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(timeout_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        if not allow_kill:
            raise
