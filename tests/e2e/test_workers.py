"""`turnwire serve --workers`: several processes on one port and one Redis act as one gateway."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.client import Client, client
from tests.gateway_process import clean_environment, gateway_process
from tests.redis_process import RedisProcess, redis_process

pytestmark = pytest.mark.e2e


def children(pid: int) -> set[int]:
    """Return the ids of the process's children."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(child) for child in listed.split()}


async def test_two_workers_act_as_one_gateway(tmp_path: Path) -> None:
    """A turn of one worker can be followed on the other, a killed worker is replaced, and after SIGTERM the exit code
    is 0."""
    server = RedisProcess(tmp_path / "redis")
    server.start()
    try:
        async with gateway_process(tmp_path, {}, "--workers", "2", store=server.url) as running:
            assert running.ready_line.rstrip().endswith("2 workers")
            by_instance: dict[str, Client] = {}
            async with AsyncExitStack() as clients, asyncio.timeout(30):
                while len(by_instance) < 2:
                    one = await clients.enter_async_context(client(running.ws_url))
                    by_instance[one.ready["instance"]] = one
                here, there = by_instance.values()
                demo = {"demo": {"rate": 50, "tokens": 50}}
                await here.request("turn.start", turn="t", model="demo", input="Hello", params=demo)
                await there.request("turn.attach", turn="t")
                assert (await there.ending("t"))["type"] == "turn.completed"
            before = children(running.process.pid)
            assert len(before) == 2
            os.kill(min(before), signal.SIGKILL)
            async with asyncio.timeout(30):
                while len(children(running.process.pid) - before) < 1:
                    await asyncio.sleep(0.05)
            running.terminate()
            assert await running.wait() == 0
    finally:
        server.kill()


async def test_the_stores_password_is_in_no_command_line(tmp_path: Path) -> None:
    """With `--store @FILE`, neither the command lines of the supervisor and its workers nor their logs have the
    password."""
    with redis_process(tmp_path / "redis", password="pa55word") as server:
        file = tmp_path / "store-url"
        file.write_text(f"{server.url}\n")
        file.chmod(0o600)
        async with gateway_process(tmp_path, {}, "--workers", "2", store=f"@{file}", fresh=True) as running:
            processes = {running.process.pid, *children(running.process.pid)}
            lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in processes]
            assert len(lines) == 3
            assert all(f"@{file}" in line for line in lines)
            assert "pa55word" not in "".join([*lines, *running.log])


def test_workers_without_a_shared_store_are_refused() -> None:
    """The command ends with exit code 2 and a sentence that says what to do."""
    refused = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--workers", "2", "--port", "0"],
        env=clean_environment({}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert refused.returncode == 2
    assert "--store redis://" in refused.stderr
