"""Tests of HTTP over real sockets: deadlines, the size of everything that isn't body, and requests parsed one at a
time."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import cast

import pytest

from gateway.http.pacing import PARSING_PREFIX
from gateway.transport.uvicorn_http import HEAD_END, HEADERS_MAX, BoundedHttp, shrink_write_buffers
from tests.client import small_buffer_socket
from tests.credentials import SECRET
from tests.in_loop_server import InLoopServer, serving

UNPARSED_BYTES_MAX = 512 * 1024
"""Twice as many bytes as asyncio's event loop, which the tests run in, reads at once."""
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
    ids=["head", "body", "body that is not read"],
)
async def test_an_incomplete_request_is_closed(sent: str) -> None:
    """A connection is closed if its client doesn't complete a request in time."""
    async with serving(handshake_timeout_s=0.3, body_timeout_s=0.3) as server:
        reader, writer = await opened(server)
        writer.write(sent.encode())
        began = time.monotonic()
        await until_closed(reader)
        assert 0.2 < time.monotonic() - began < 3
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ",
        "GET /",
        HEAD.format("POST /v1/conversations") + "Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
        HEAD.format("POST /v1/conversations") + "Transfer-Encoding: chunked\r\n\r\n5;extension=",
    ],
    ids=["header", "URL", "trailer", "chunk extension"],
)
async def test_an_endless_head_is_closed(head: str) -> None:
    """Everything except the body is bounded in size, so no header of megabytes is buffered or waited for."""
    async with serving(handshake_timeout_s=30, body_timeout_s=30) as server:
        reader, writer = await opened(server)
        writer.write(head.encode())
        with suppress(OSError):
            for _ in range(20):
                writer.write(b"x" * 16_384)
                await writer.drain()
        received = await until_closed(reader)
        assert received == b"" or b"400 Bad Request" in received
        writer.close()


async def test_a_body_in_the_smallest_chunks_is_read() -> None:
    """A body may be sent in chunks of one byte."""
    async with serving() as server:
        reader, writer = await opened(server)
        body = b'{"title":"' + b"x" * 250 + b'"}'
        spread = body.replace(b":", b":" + b" " * 30_000)
        writer.write((HEAD.format("POST /v1/conversations") + "Content-Type: application/json\r\n").encode())
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
        writer.write(b"".join(b"1\r\n%c\r\n" % byte for byte in spread) + b"0\r\n\r\n")
        assert b"201 Created" in await reader.readuntil(b"\r\n")
        writer.close()


async def test_a_later_request_has_a_deadline_too() -> None:
    """The deadline of the head also applies to later requests of a persistent connection."""
    async with serving(handshake_timeout_s=0.3) as server:
        reader, writer = await opened(server)
        writer.write((HEAD.format("GET /health") + "\r\n").encode())
        assert b"200 OK" in await reader.readuntil(b"}")
        await asyncio.sleep(0.5)  # longer than the deadline, which doesn't apply between requests
        writer.write((HEAD.format("GET /health") + "\r\n").encode())
        assert b"200 OK" in await reader.readuntil(b"}")
        writer.write(b"GET /health HT")
        began = time.monotonic()
        assert await until_closed(reader) == b""
        assert time.monotonic() - began < 2
        writer.close()


async def test_a_slow_body_in_time_is_read() -> None:
    """A body that is sent in pieces within the deadline is read."""
    async with serving(body_timeout_s=3) as server:
        reader, writer = await opened(server)
        head = HEAD.format("POST /v1/conversations")
        writer.write((head + "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n").encode())
        for piece in (b"{", b"}"):
            await asyncio.sleep(0.1)
            writer.write(piece)
        assert b"201 Created" in await reader.readuntil(b"\r\n")
        writer.close()


async def test_a_response_that_is_not_read_is_dropped() -> None:
    """Neither the socket nor the response is kept for a client that has stopped reading."""
    async with serving(write_timeout_s=0.3, frame_bytes=20_000_000) as server:
        _, writer = await asyncio.open_connection(sock=small_buffer_socket(server.url), limit=1024)
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


async def test_pipelined_requests_are_parsed_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2000 requests that a client sends at once, one is in progress at a time, and the others aren't parsed.

    The gateway doesn't read all of them at once either. All are answered.
    """
    waiting: list[int] = []
    unparsed: list[int] = []
    start = BoundedHttp.on_headers_complete

    def on_headers_complete(protocol: BoundedHttp) -> None:
        start(protocol)
        waiting.append(len(protocol.pipeline))
        unparsed.append(len(protocol._unparsed))

    monkeypatch.setattr(BoundedHttp, "on_headers_complete", on_headers_complete)
    count, long = 2000, f"X-Long: {'x' * 500}\r\n\r\n"
    async with serving() as server:
        reader, writer = await opened(server)
        writer.write((HEAD.format("GET /health") + long).encode() * count)
        for _ in range(count):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"200 OK" in head
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        assert waiting == [0] * count
        assert max(unparsed) < UNPARSED_BYTES_MAX < len(long) * count
        writer.close()


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_requests_behind_a_body_wait_for_its_response(framing: str) -> None:
    """A long body, and the requests that are sent together with it, are read completely and answered in order."""
    body = b'{"title":%b"x"}' % (HEAD_END * 10_000)
    head = HEAD.format("POST /v1/conversations") + "Content-Type: application/json\r\n"
    if framing == "chunks":
        framed = b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        framed = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    request = head.encode() + framed
    async with serving(handshake_timeout_s=5) as server:
        reader, writer = await opened(server)
        writer.write((request + (HEAD.format("GET /v1/models") + "\r\n").encode() * 3) * 3)
        for _ in range(3):
            assert b"201 Created" in await reader.readuntil(b"HTTP/1.1 200")
            for _ in range(2):
                await reader.readuntil(b"HTTP/1.1 200")
        writer.close()


async def test_a_request_that_waits_for_an_earlier_response_is_not_late() -> None:
    """The deadline of a head doesn't end a connection whose response takes longer."""
    async with serving(handshake_timeout_s=0.2, body_timeout_s=0.2) as server:
        reader, writer = await opened(server)
        turn = b'{"input":"x","params":{"demo":{"rate":10,"tokens":6}}}'
        head = HEAD.format("POST /v1/turns") + f"Content-Type: application/json\r\nContent-Length: {len(turn)}\r\n\r\n"
        following = (HEAD.format("GET /v1/models") + f"X-Long: {'x' * 5000}\r\n\r\n").encode()
        writer.write(head.encode() + turn + following)
        async with asyncio.timeout(10):
            await reader.readuntil(b"200 OK")
            await reader.readuntil(b"200 OK")
        writer.close()


async def test_too_many_headers_are_refused() -> None:
    """Up to the limit a request is served. Above it the request is refused, and the error names the limit."""
    async with serving() as server:
        for count, words in ((HEADERS_MAX - 1, b"200 OK"), (20_000, f"Send at most {HEADERS_MAX}".encode())):
            reader, writer = await opened(server)
            writer.write((HEAD.format("GET /health") + "a:b\r\n" * count + "\r\n").encode())
            async with asyncio.timeout(5):
                assert words in await reader.readuntil(words)
            writer.close()


async def test_law_11_a_connection_is_not_held_between_requests() -> None:
    """A proxy may send requests of several users over one connection. So the time that was charged for the body of one
    request doesn't delay the next."""
    async with serving(auth="jwt", jwt_secret=SECRET) as server:
        loop_time = server.gateway.services.limits.loop_time
        reader, writer = await opened(server)
        writer.write((HEAD.format("POST /v1") + "Content-Length: 1\r\n\r\n").encode())
        async with asyncio.timeout(3):
            assert b" 405 " in await reader.readline()
        loop_time.charge(f"{PARSING_PREFIX}{loop_time.request((), '127.0.0.1').payer}", 5)
        writer.write(b"x")
        await asyncio.sleep(0.1)
        writer.write((HEAD.format("GET /health") + "\r\n").encode())
        async with asyncio.timeout(3):
            await reader.readuntil(b'"ok"}')
        writer.close()


async def test_a_body_that_nobody_reads_has_a_deadline() -> None:
    """After the response, a body that still arrives is discarded until its deadline, then the connection is closed."""
    async with serving(body_timeout_s=0.5, auth="jwt", jwt_secret=SECRET) as server:
        reader, writer = await opened(server)
        writer.write((HEAD.format("POST /v1") + "Transfer-Encoding: chunked\r\n\r\n").encode())
        async with asyncio.timeout(5):
            assert b" 405 " in await reader.readline()
            with suppress(OSError):
                while not reader.at_eof():
                    writer.write(b"1\r\n \r\n" * 10_000)
                    await writer.drain()
                    await asyncio.sleep(0)
        writer.close()


async def test_the_buffers_of_a_closed_connection() -> None:
    """A client that leaves before its stream begins is no failure: uvloop's transports raise an error then."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.close()
    await writer.wait_closed()
    shrink_write_buffers(cast("asyncio.Transport", writer.transport))
    server.close()
