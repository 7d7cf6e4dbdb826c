"""The drain: no new turn starts, connected clients are notified, and the process keeps running."""

from __future__ import annotations

import httpx2
import pytest
from websockets.exceptions import InvalidStatus

from gateway.drain import drain
from tests.client import client
from tests.in_loop_server import serving
from tests.in_process import SLOW


async def test_a_drained_instance_keeps_running_but_is_not_ready() -> None:
    """Running turns end within the drain time, and sockets close with 4503. Then `/ready` returns 503 and `/health` 200,
    new turns and connections are refused, and a second drain raises no error."""
    async with (
        serving(drain_s=0.3) as server,
        client(server.ws_url) as c,
        httpx2.AsyncClient(base_url=server.url) as http,
    ):
        await c.request("turn.start", turn="t", input="Hi", params={"demo": SLOW})
        gateway = server.gateway
        await drain(gateway.services)
        assert (await c.ending("t"))["error"]["code"] == "shutting_down"
        assert (await c.until_closed())[0] == 4503
        assert [frame["type"] for frame in c.frames].count("going_away") == 1
        ready = await http.get("/ready")
        assert (ready.status_code, ready.json()["error"]["code"]) == (503, "shutting_down")
        assert (await http.get("/health")).status_code == 200
        refused = await http.post("/v1/turns", json={"input": "Hi"})
        assert refused.json()["error"]["code"] == "shutting_down"
        with pytest.raises(InvalidStatus, match="503"):
            async with client(server.ws_url):
                pass
        await drain(gateway.services)
