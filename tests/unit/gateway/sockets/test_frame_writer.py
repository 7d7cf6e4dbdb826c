"""What sends a connection's frames, over real sockets: past the writer's task while the socket takes them."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from gateway.sockets.frame_writer import FrameWriter
from gateway.transport.uvicorn_websocket import BoundedWebSocket
from tests.client import client, small_buffer_socket
from tests.in_loop_server import serving
from tests.in_process import eventually

WORDS = 200


@pytest.fixture
def writes_per_socket(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many frames went which way."""
    counted: Counter[str] = Counter()
    write, send = BoundedWebSocket.write_frame, BoundedWebSocket.send

    def counted_write(self: BoundedWebSocket, opcode: int, payload: bytes) -> None:
        counted["written"] += 1
        write(self, opcode, payload)

    async def counted_send(self: BoundedWebSocket, message: object) -> None:
        counted["sent"] += 1
        await send(self, message)  # type: ignore[arg-type]

    monkeypatch.setattr(BoundedWebSocket, "write_frame", counted_write)
    monkeypatch.setattr(BoundedWebSocket, "send", counted_send)
    return counted


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_a_token_wakes_no_task(writes_per_socket: Counter[str], codec: str) -> None:
    """While the socket takes frames, they are written where they are made, in both codecs."""
    async with serving() as server, client(server.ws_url, codec=codec) as c:
        await c.request("ping")
        sent = writes_per_socket["sent"]
        demo = {"rate": 0, "tokens": WORDS}
        await c.request("turn.start", turn="t", input="Hi", params={"demo": demo})
        await c.ending("t")
        assert writes_per_socket["written"] > 5
        assert writes_per_socket["sent"] == sent


async def test_a_client_that_stops_reading_misses_nothing(writes_per_socket: Counter[str]) -> None:
    """What its socket doesn't take waits for the task, and all of it comes, in its order (law 1 is the client's)."""
    async with (
        serving(outbox_bytes=2**26) as server,
        client(server.ws_url, sock=small_buffer_socket(server.url), max_queue=1) as c,
    ):
        sent = writes_per_socket["sent"]
        c.reading.clear()
        demo = {"rate": 0, "tokens": 20_000}
        await c.send("turn.start", turn="t", input="Hi", params={"demo": demo})
        await eventually(lambda: writes_per_socket["sent"] > sent)
        c.reading.set()
        ended = await c.ending("t")
        assert ended["type"] == "turn.completed"
        assert len(c.turns["t"].text().split()) == 20_000


async def test_nothing_is_written_before_the_task_runs(writes_per_socket: Counter[str]) -> None:
    """Who wakes it before it was told which queue is its own does no harm."""

    async def send(message: object) -> None:
        raise AssertionError(message)

    writer = FrameWriter(None, send)
    writer.wake()
    await asyncio.sleep(0)
    assert not writes_per_socket
