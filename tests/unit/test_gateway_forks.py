"""Forked gateways behave like started ones: arguments, environment, output, exit codes and signals."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway_forks import Forked, ForkServer
from tests.gateway_process import FORKS

SERVE = ("serve", "--port", "0", "--store", "sqlite:///:memory:")


@pytest.fixture
def server() -> Iterator[ForkServer]:
    """A fork server that only this test uses."""
    made = ForkServer(FORKS.address())
    yield made
    made.stop()


async def output(process: Forked) -> str:
    """Return the output of a process until its end."""
    assert process.stdout is not None
    text = (await process.stdout.read()).decode()
    process.close()
    return text


async def ready(process: Forked) -> None:
    """Wait until the process prints that it is ready."""
    assert process.stdout is not None
    async for line in process.stdout:
        if line.startswith(b"Turnwire is ready"):
            return
    raise AssertionError("the process ended before it was ready")


async def test_a_forked_command_has_its_own_exit_code(server: ForkServer, tmp_path: Path) -> None:
    """An invalid option or environment variable is reported, with exit code 2."""
    wrong = await server.start(["serve", "--nonsense"], {}, tmp_path, 1 << 16)
    assert "--nonsense" in await output(wrong)
    assert await wrong.wait() == wrong.returncode == 2
    setting = await server.start(SERVE, {"TURNWIRE_HEARTBEAT_S": "soon"}, tmp_path, 1 << 16)
    assert "TURNWIRE_HEARTBEAT_S" in await output(setting)
    assert await setting.wait() == 2


async def test_a_forked_process_receives_signals(server: ForkServer, tmp_path: Path) -> None:
    """Signals reach the process, its exit code or signal is returned, and it runs in the given folder."""
    terminated, killed = [await server.start(SERVE, {}, tmp_path, 1 << 16) for _ in range(2)]
    for process in (terminated, killed):
        await ready(process)
        assert process.returncode is None
        assert Path(os.readlink(f"/proc/{process.pid}/cwd")) == tmp_path
    terminated.terminate()
    assert await terminated.wait() == 0
    killed.kill()
    assert await killed.wait() == -signal.SIGKILL
    killed.terminate()  # no process gets a signal after the end
    terminated.close()
    killed.close()


async def test_processes_end_with_the_fork_server(server: ForkServer, tmp_path: Path) -> None:
    """When a fork server stops, its processes are ended. Those of another one go on."""
    ending = ForkServer(FORKS.address())
    process, other = [await each.start(SERVE, {}, tmp_path, 1 << 16) for each in (ending, server)]
    await ready(process)
    await ready(other)
    await asyncio.to_thread(ending.stop)
    async with asyncio.timeout(10):
        await output(process)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    assert other.returncode is None
    other.terminate()
    assert await other.wait() == 0
    other.close()
