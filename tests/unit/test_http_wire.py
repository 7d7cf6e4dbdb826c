"""HTTP at the socket: heads, bodies and writes have deadlines."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.client import narrow_socket
from tests.in_loop_server import InLoopServer, serving

HEAD = "{} HTTP/1.1\r\nHost: 127.0.0.1\r\n"


async def opened(server: InLoopServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", server.port)


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        try:
            return await reader.read(-1)
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize(
    "sent",
    [
        "GET /health HTTP/1.1\r\nHost: 127",
        HEAD.format("POST /v1/conversations") + "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{",
        HEAD.format("POST /v1/nothing") + "Content-Length: 10\r\n\r\n{",
    ],
    ids=["head", "body", "body that nobody reads"],
)
async def test_half_a_request_is_cut(sent: str) -> None:
    """A client that doesn't finish what it began keeps no socket."""
    async with serving(handshake_timeout_s=0.3, body_timeout_s=0.3) as server:
        reader, writer = await opened(server)
        writer.write(sent.encode())
        began = time.monotonic()
        await until_closed(reader)
        assert 0.2 < time.monotonic() - began < 3
        writer.close()


async def test_a_second_request_has_its_deadlines_too() -> None:
    """On a connection that was kept alive."""
    async with serving(handshake_timeout_s=0.3) as server:
        reader, writer = await opened(server)
        writer.write((HEAD.format("GET /health") + "\r\n").encode())
        assert b"200 OK" in await reader.readuntil(b"}")
        await asyncio.sleep(0.5)  # longer than a head may take: between requests nothing is owed
        writer.write((HEAD.format("GET /health") + "\r\n").encode())
        assert b"200 OK" in await reader.readuntil(b"}")
        writer.write(b"GET /health HT")
        began = time.monotonic()
        assert await until_closed(reader) == b""
        assert time.monotonic() - began < 2
        writer.close()


async def test_a_slow_body_in_time_is_read() -> None:
    """The deadline is for the whole body, and not for each piece."""
    async with serving(body_timeout_s=3) as server:
        reader, writer = await opened(server)
        head = HEAD.format("POST /v1/conversations")
        writer.write((head + "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n").encode())
        for piece in (b"{", b"}"):
            await asyncio.sleep(0.1)
            writer.write(piece)
        assert b"201 Created" in await reader.readuntil(b"\r\n")
        writer.close()


async def test_an_answer_that_is_not_read_is_cut() -> None:
    """The gateway keeps neither the socket nor the answer for a client that stopped reading."""
    async with serving(write_timeout_s=0.3, frame_bytes=20_000_000) as server:
        _, writer = await asyncio.open_connection(sock=narrow_socket(server.url), limit=1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        body = b'{"system":"%b"}' % (b"x" * 12_000_000)
        head = HEAD.format("POST /v1/conversations")
        writer.write((head + f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body)
        async with asyncio.timeout(10):
            while not server.server.server_state.connections:
                await asyncio.sleep(0.01)
            while server.server.server_state.connections:
                await asyncio.sleep(0.02)
        writer.close()
