"""Tests of the frame writer over real sockets: frames bypass its task while the socket accepts them."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from gateway.sockets.frame_writer import FrameWriter
from gateway.transport.uvicorn_websocket import BoundedWebSocket
from tests.client import client, small_buffer_socket
from tests.in_loop_server import serving
from tests.in_process import eventually
from tests.upstream import Upstream, chat

WORDS = 200


@pytest.fixture
def frame_counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts of the frames that were written directly and of those that were sent by the task."""
    counted: Counter[str] = Counter()
    write, send = BoundedWebSocket.write_frame, BoundedWebSocket.send
    write_soon = BoundedWebSocket.write_frame_soon

    def counted_write(self: BoundedWebSocket, first_byte: int, payload: bytes) -> None:
        counted["written"] += 1
        write(self, first_byte, payload)

    async def counted_send(self: BoundedWebSocket, message: object) -> None:
        counted["sent"] += 1
        await send(self, message)  # type: ignore[arg-type]

    def counted_soon(self: BoundedWebSocket, first_byte: int, payload: bytes) -> bool:
        is_written = write_soon(self, first_byte, payload)
        counted["soon" if is_written else "refused"] += 1
        return is_written

    monkeypatch.setattr(BoundedWebSocket, "write_frame", counted_write)
    monkeypatch.setattr(BoundedWebSocket, "write_frame_soon", counted_soon)
    monkeypatch.setattr(BoundedWebSocket, "send", counted_send)
    return counted


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_a_token_needs_no_task_switch(frame_counts: Counter[str], codec: str) -> None:
    """While the socket accepts frames, they are written directly, in both codecs."""
    async with serving() as server, client(server.ws_url, codec=codec) as c:
        await c.request("ping")
        sent = frame_counts["sent"]
        demo = {"rate": 0, "tokens": WORDS}
        await c.request("turn.start", turn="t", input="Hi", params={"demo": demo})
        await c.ending("t")
        assert frame_counts["written"] > 5
        assert frame_counts["sent"] == sent


async def test_a_client_that_stops_reading_loses_no_frame(frame_counts: Counter[str]) -> None:
    """Frames that the socket doesn't accept wait for the task. All arrive in order (law 1 is checked by the client)."""
    async with (
        serving(outbox_bytes=2**26) as server,
        client(server.ws_url, sock=small_buffer_socket(server.url), max_queue=1) as c,
    ):
        sent = frame_counts["sent"]
        c.reading.clear()
        demo = {"rate": 0, "tokens": 20_000}
        await c.send("turn.start", turn="t", input="Hi", params={"demo": demo})
        await eventually(lambda: frame_counts["sent"] > sent)
        c.reading.set()
        ended = await c.ending("t")
        assert ended["type"] == "turn.completed"
        assert len(c.turns["t"].text().split()) == 20_000


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_plain_text_passes_no_queue(frame_counts: Counter[str], codec: str) -> None:
    """Text of a provider is written as soon as it is read, while the client reads, and answers keep their place.

    Nothing is lost while the client doesn't read, and the text takes the shortcut again afterwards.
    """
    words = [f"{number:0200} " for number in range(4000)]
    async with Upstream() as upstream:
        upstream.play(chat(*words))
        environment = {"OPENAI_BASE_URL": upstream.openai_url, "OPENAI_API_KEY": "k"}
        async with (
            serving(environment, outbox_bytes=2**26) as server,
            client(server.ws_url, codec=codec, sock=small_buffer_socket(server.url), max_queue=1) as c,
        ):
            await c.send("turn.start", turn="t", input="Hi", model="openai/m")
            await eventually(lambda: frame_counts["soon"] > 100)
            await c.request("ping")
            c.reading.clear()
            await eventually(lambda: frame_counts["refused"] > 0)
            before = frame_counts["soon"]
            c.reading.set()
            await eventually(lambda: frame_counts["soon"] > before + 100)
            assert (await c.ending("t"))["type"] == "turn.completed"
            assert c.turns["t"].text() == "".join(words)


async def test_nothing_is_written_before_the_task_runs(frame_counts: Counter[str]) -> None:
    """A wakeup before the task has its outbox does no harm."""

    async def send(message: object) -> None:
        raise AssertionError(message)

    writer = FrameWriter(None, send)
    writer.wake()
    await asyncio.sleep(0)
    assert not frame_counts
