"""Runs the real Go reverse proxy of `examples/go-proxy` in front of a gateway."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "examples" / "go-proxy"
BUILD_TIMEOUT_S = 120
START_TIMEOUT_S = 10
STOP_TIMEOUT_S = 15


@pytest.fixture(scope="session")
def go_proxy_binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The proxy, built once per test process; skips where Go is missing, which CI has refused before."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed: tests/prepare.sh says how to get it")
    binary = tmp_path_factory.mktemp("go-proxy") / "go-proxy"
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    for command in (["vet", "."], ["build", "-o", str(binary), "."]):
        done = subprocess.run(
            [go, *command],
            cwd=SOURCE,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"go {command[0]} failed:\n{done.stderr}"
    return binary


@asynccontextmanager
async def go_proxy(binary: Path, gateway_url: str) -> AsyncIterator[str]:
    """Start the proxy on a free port before `gateway_url` and yield its own `http://host:port`.

    Leaving the context terminates it and waits until it has gone.

    Raises:
        TimeoutError: it did not say in time where it listens, or did not end in time.
        RuntimeError: it ended instead of listening.
    """
    process = await asyncio.create_subprocess_exec(
        binary,
        env={**os.environ, "TURNWIRE_URL": gateway_url, "LISTEN": "127.0.0.1:0"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield await _listening_url(process)
    finally:
        await _stop(process)


async def _listening_url(process: asyncio.subprocess.Process) -> str:
    """Read the proxy's one line: `listening on URL, forwarding to URL`."""
    assert process.stdout is not None
    async with asyncio.timeout(START_TIMEOUT_S):
        line = (await process.stdout.readline()).decode()
    if not line.startswith("listening on "):
        raise RuntimeError(f"the Go proxy did not start: {line!r}")
    return line.removeprefix("listening on ").partition(",")[0]


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ask it to end; kill it when it doesn't, and say so."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise
