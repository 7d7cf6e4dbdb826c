"""The processes that the tests fork are what an operator starts: arguments, environment, output, exit codes, signals."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway_forks import Forked, ForkServer

SERVE = ("serve", "--port", "0", "--store", "sqlite:///:memory:")


@pytest.fixture
def server() -> Iterator[ForkServer]:
    """One of this test's own."""
    made = ForkServer()
    yield made
    made.stop()


async def output(process: Forked) -> str:
    """All that it writes, until its end."""
    assert process.stdout is not None
    said = (await process.stdout.read()).decode()
    process.close()
    return said


async def ready(process: Forked) -> None:
    """Wait until it says so."""
    assert process.stdout is not None
    async for line in process.stdout:
        if line.startswith(b"Turnwire is ready"):
            return
    raise AssertionError("it ended")


async def test_a_command_ends_with_its_own_code(server: ForkServer, tmp_path: Path) -> None:
    """A wrong option, and a setting that only its environment has."""
    wrong = await server.start(["serve", "--nonsense"], {}, tmp_path, 1 << 16)
    assert "--nonsense" in await output(wrong)
    assert await wrong.wait() == wrong.returncode == 2
    setting = await server.start(SERVE, {"TURNWIRE_HEARTBEAT_S": "soon"}, tmp_path, 1 << 16)
    assert "TURNWIRE_HEARTBEAT_S" in await output(setting)
    assert await setting.wait() == 2


async def test_signals_reach_it_and_their_end_is_told(server: ForkServer, tmp_path: Path) -> None:
    """SIGTERM lets it leave, SIGKILL does not; in the folder that was named."""
    leaving, killed = [await server.start(SERVE, {}, tmp_path, 1 << 16) for _ in range(2)]
    for process in (leaving, killed):
        await ready(process)
        assert process.returncode is None
        assert Path(os.readlink(f"/proc/{process.pid}/cwd")) == tmp_path
    leaving.terminate()
    assert await leaving.wait() == 0
    killed.kill()
    assert await killed.wait() == -signal.SIGKILL
    killed.terminate()  # nobody is hit by what comes after the end
    leaving.close()
    killed.close()


async def test_what_still_runs_ends_with_the_server(tmp_path: Path) -> None:
    """Whoever leaves takes its processes along."""
    server = ForkServer()
    process = await server.start(SERVE, {}, tmp_path, 1 << 16)
    await ready(process)
    await asyncio.to_thread(server.stop)
    async with asyncio.timeout(10):
        await output(process)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
