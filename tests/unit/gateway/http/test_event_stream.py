"""Tests of a turn's events as an HTTP response: slow clients, shutdowns, and resuming afterward."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.client import TurnView, small_buffer_socket
from tests.demo import expected
from tests.http_events import NDJSON, SSE, followed, http_client, started
from tests.in_loop_server import InLoopServer, serving
from tests.in_process import SLOW, eventually

FLOOD = {"rate": 0, "tokens": 20_000}
SMALL_BUFFER = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)]


async def stalled(server: InLoopServer, turn: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect a client that requests a turn's events and reads nothing."""
    reader, writer = await asyncio.open_connection(sock=small_buffer_socket(server.url), limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    host = urlsplit(server.url).netloc
    writer.write(f"GET /v1/turns/{turn}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return reader, writer


async def test_law_11_a_client_that_does_not_read_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    """Law 11: when the client's outbox exceeds the limit, the stream ends.

    The turn continues, and another client gets all its events.
    """
    caplog.set_level("INFO")
    async with serving(close_timeout_s=0.2, outbox_bytes=65_536) as server, http_client(server.url) as http:
        body = {"turn": "t", "input": "x", "params": {"demo": {**FLOOD, "first_ms": 300}}}
        await http.post("/v1/turns", json=body, headers={"prefer": "respond-async"})
        _, writer = await stalled(server, "t")
        stream = server.gateway.services.registry.get("local", "t")
        assert stream is not None
        await eventually(lambda: stream.is_attached)
        await eventually(lambda: not stream.is_attached)
        await eventually(lambda: "stream closing" in caplog.text)
        assert stream.is_live
        await eventually(lambda: not server.gateway.services.clients.all())
        async with followed(http, "t") as events:
            assert (await events.ending())["type"] == "turn.completed"
        writer.close()


async def test_a_slow_client_resumes_without_loss() -> None:
    """Law 11: after the stream is closed, the client resumes after its last event."""
    async with serving(outbox_bytes=65_536, close_timeout_s=10) as server:
        view = TurnView()
        async with http_client(server.url, transport=httpx2.AsyncHTTPTransport(socket_options=SMALL_BUFFER)) as slow:
            demo = FLOOD
            async with started(slow, turn="t", input="x", params={"demo": demo}) as events:
                events.view = view
                await events.until_seq(1)
                stream = server.gateway.services.registry.get("local", "t")
                assert stream is not None
                await eventually(lambda: not stream.is_attached)
                while await events.next():
                    pass
            assert view.ended is None
            while view.ended is None:
                async with followed(slow, "t", view) as again:
                    while await again.next():
                        pass
            assert view.text() == expected("x", demo)
            assert view.resets == 0


@pytest.mark.parametrize("accept", [SSE, NDJSON])
async def test_a_stream_during_a_shutdown(accept: str) -> None:
    """The turn is ended with `shutting_down`, the client gets `going_away`, and the response ends properly."""
    async with serving(drain_s=0.05) as server, http_client(server.url) as http:
        async with started(http, accept=accept, turn="t", input="x", params={"demo": SLOW}) as events:
            await events.until_seq(3)
            drain = asyncio.get_running_loop().create_task(server.gateway.drain())
            ended = await events.ending()
            assert ended["error"]["code"] == "shutting_down"
            going_away = [frame for frame in events.asides if frame["type"] == "going_away"]
            assert len(going_away) == 1
            if accept == SSE:
                assert events.retry_ms == going_away[0]["reconnect_after_ms"]
            await drain
    assert not server.gateway.services.clients.all()


async def test_a_revoked_credential_ends_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the revocation, the stream ends without the turn's ending."""
    async with serving() as server, http_client(server.url) as http:
        async with started(http, turn="t", input="x", params={"demo": SLOW}) as events:
            await events.until_seq(3)
            (lease,) = server.gateway.services.authenticator._leases
            lease.revoke()
            while await events.next():
                pass
            assert events.view.ended is None
        await eventually(lambda: not server.gateway.services.authenticator._leases)
