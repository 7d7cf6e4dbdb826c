"""deploy/nginx.conf in a real nginx before two instances on one Redis: sockets, event streams, sizes, an instance that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.client import client
from tests.demo import expected
from tests.gateway_process import GatewayProcess, gateway_process
from tests.ports import free_port
from tests.programs import program
from tests.redis_process import redis_process

SNIPPET = Path(__file__).parents[2] / "deploy" / "nginx.conf"

pytestmark = pytest.mark.e2e


@asynccontextmanager
async def nginx(folder: Path, gateways: list[GatewayProcess]) -> AsyncIterator[str]:
    """nginx with the snippet, but for addresses; its URL."""
    port = free_port()
    text = SNIPPET.read_text(encoding="utf-8").replace("listen 8080;", f"listen 127.0.0.1:{port};")
    for n, gateway in enumerate(gateways, 1):
        assert f"turnwire-{n}:8000" in text
        text = text.replace(f"turnwire-{n}:8000", urlsplit(gateway.url).netloc)
    folder.mkdir()
    paths = "".join(
        f"{name}_temp_path {folder / name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {folder / 'pid'};\nerror_log stderr warn;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}{text}\n}}\n"
    )
    process = await asyncio.create_subprocess_exec(
        program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")
    )
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    assert process.returncode is None, "nginx refuses the configuration"
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_law_1_through_nginx_while_an_instance_leaves(tmp_path: Path) -> None:
    """Laws 1 and 7: a socket and an event stream flow token by token; the instance under the socket is stopped, and the
    next socket, through the same address, goes on from the position without a gap; large bodies pass; the operator's
    addresses don't."""
    demo = {"rate": 40, "tokens": 120}
    with redis_process(tmp_path / "redis") as redis:
        async with (
            gateway_process(tmp_path, {"TURNWIRE_DRAIN_S": "0.2"}, store=redis.url) as one,
            gateway_process(tmp_path, {"TURNWIRE_DRAIN_S": "0.2"}, store=redis.url) as two,
            nginx(tmp_path / "nginx", [one, two]) as url,
            httpx2.AsyncClient(base_url=url, timeout=20) as http,
        ):
            ws = url.replace("http", "ws", 1) + "/ws"
            async with client(ws, additional_headers={"Origin": url}) as c:
                await c.request("turn.start", turn="t", input="Hi", params={"demo": demo})
                await c.deltas("t", 10)
                here = c.ready["instance"]
                names = {(await http.get(f"{gateway.url}/v1")).json()["instance"]: gateway for gateway in (one, two)}
                names[here].terminate()
                assert (await c.until_closed())[0] == 4503
                view = c.turns["t"]
            async with client(ws) as d:
                assert d.ready["instance"] != here
                d.turns["t"] = view
                await d.request("turn.attach", turn="t", epoch=view.epoch, after=view.seq)
                assert (await d.ending("t"))["type"] == "turn.completed"
                assert d.turns["t"].text() == expected("Hi", demo)

            body = {"turn": "u", "input": "Hi", "params": {"demo": demo}}
            async with http.stream("POST", "/v1/turns", json=body, headers={"accept": "text/event-stream"}) as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                loop = asyncio.get_running_loop()
                times = [loop.time() async for line in stream.aiter_lines() if line.startswith("data:")]
            assert times[-1] - times[0] > 1.5, "nginx kept the events back"

            large = "x" * 5_000_000
            accepted = await http.post("/v1/turns", json={"input": large}, headers={"prefer": "respond-async"})
            assert accepted.status_code == 202
            for path in ("/metrics", "/v1/admin/turns"):
                refused = await http.get(path)
                assert (refused.status_code, b"nginx" in refused.content) == (404, True)
