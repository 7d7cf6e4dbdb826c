"""Admin commands stop a turn on another instance and drain an instance. The health probes show that
an instance is drained or has no store."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.client import client
from tests.demo import expected
from tests.gateway_process import GatewayProcess, clean_environment, gateway_process
from tests.redis_process import redis_process

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


async def admin(gateway: GatewayProcess, *arguments: str) -> str:
    """Run `turnwire admin` and return its output."""
    command = (sys.executable, "-m", "gateway", "admin", "--url", gateway.url, *arguments)
    done = await asyncio.to_thread(
        subprocess.run, command, env=clean_environment({}), cwd=ROOT, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def probes(gateway: GatewayProcess) -> tuple[int, int]:
    """Return the status codes of `/health` and `/ready`."""
    async with httpx2.AsyncClient(base_url=gateway.url) as http:
        return (await http.get("/health")).status_code, (await http.get("/ready")).status_code


async def test_admin_stops_a_turn_on_another_instance_and_drains(tmp_path: Path) -> None:
    """A turn is stopped through the other instance. A drained instance closes its sockets, fails its readiness probe
    and keeps running; its turn is taken over by the other instance and completes."""
    demo = {"rate": 50, "tokens": 200}
    settings = {"TURNWIRE_DRAIN_S": "0.5"}
    with redis_process(tmp_path / "redis") as redis:
        async with (
            gateway_process(tmp_path, settings, store=redis.url) as one,
            gateway_process(tmp_path, settings, store=redis.url) as two,
            client(one.ws_url) as c,
        ):
            await c.request("turn.start", turn="t", input="Hi", params={"demo": {"rate": 20, "tokens": 5000}})
            await c.request("turn.start", turn="u", input="Hi", params={"demo": demo})
            await c.until_seq("t", 3)
            assert "t  " in await admin(one, "turns")
            assert await admin(two, "turns") == "None.\n"
            assert await admin(two, "stop", "t", "--user", "local", "--reason", "Enough.") == "t: cancelled\n"
            ended = await c.ending("t")
            assert (ended["type"], ended["by"], ended["reason"]) == ("turn.cancelled", "admin", "Enough.")

            await c.until_seq("u", 3)
            await admin(one, "drain")
            assert (await c.until_closed())[0] == 4503
            assert await probes(one) == (200, 503)
            assert await probes(two) == (200, 200)
            async with client(two.ws_url) as d:
                d.turns["u"] = view = c.turns["u"]
                await d.request("turn.attach", turn="u", epoch=view.epoch, after=view.seq)
                assert (await d.ending("u"))["type"] == "turn.completed"
                assert d.turns["u"].text() == expected("Hi", demo)
            assert one.process.returncode is None
            one.terminate()
            assert await one.wait() == 0


async def test_probes_while_the_store_is_unavailable(tmp_path: Path) -> None:
    """While Redis is frozen the process is healthy and not ready; after Redis is back it is ready again without a
    restart."""
    with redis_process(tmp_path / "redis") as redis:
        async with gateway_process(tmp_path, store=redis.url) as gateway:
            assert await probes(gateway) == (200, 200)
            redis.freeze()
            assert await probes(gateway) == (200, 503)
            redis.thaw()
            assert await probes(gateway) == (200, 200)
