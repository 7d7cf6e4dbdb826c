"""Tests of our bounds on uvicorn's WebSockets, over real sockets: openings, messages, closes, clients that read nothing,
and floods of frames."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

import pytest
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode

from gateway.transport.uvicorn_websocket import BINARY as WHOLE_BINARY
from gateway.transport.uvicorn_websocket import PARSE_SLICE_BYTES, BoundedWebSocket, encode_frame
from gateway.transport.uvicorn_websocket import TEXT as WHOLE_TEXT
from tests.client import client, small_buffer_socket
from tests.credentials import SECRET
from tests.in_loop_server import InLoopServer, serving
from tests.in_process import eventually
from tests.raw_socket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawFrame
from tests.raw_socket import OPENING as ANY_OPENING

OPENING = ANY_OPENING.replace("{host}", "127.0.0.1")


def masked(payload: bytes, opcode: int, *, fin: bool = True) -> bytes:
    """Return one client frame."""
    return RawFrame(opcode, payload, fin).encode()


class Raw:
    """A bare TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def rest(self) -> bytes:
        """Return everything that is received until the server closes."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read(-1)
            except ConnectionResetError:
                return b""

    async def closed_with(self) -> int:
        """Return the code of the close frame, after the server has closed the socket."""
        received = await self.rest()
        at = received.rindex(b"\x88")
        return int.from_bytes(received[at + 2 : at + 4], "big")


@asynccontextmanager
async def raw(server: InLoopServer, *, more: str | None = None) -> AsyncIterator[Raw]:
    """Open a connection. If `more` headers are given, also send the opening handshake with them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    if more is not None:
        writer.write(OPENING.format(more=more).encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert b"101 Switching Protocols" in head
        assert b"permessage-deflate" not in head
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("sent", [b"", b"GET /ws HTTP/1.1\r\nHost: 127"], ids=["nothing", "incomplete head"])
async def test_a_connection_without_a_request_is_closed(sent: bytes) -> None:
    """The head of the first request has a deadline."""
    async with serving(handshake_timeout_s=0.1) as server, raw(server) as connection:
        connection.writer.write(sent)
        assert await connection.rest() == b""


async def test_a_persistent_connection_outlives_the_deadline() -> None:
    """The deadline applies to the head only: a persistent connection stays open."""
    async with serving(handshake_timeout_s=0.1) as server, raw(server) as connection:
        for wait_s in (0.2, 0):
            connection.writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            head = await asyncio.wait_for(connection.reader.readuntil(b"\r\n\r\n"), 10)
            assert b"200 OK" in head
            await connection.reader.readexactly(len('{"status":"ok"}'))
            await asyncio.sleep(wait_s)


async def test_an_open_websocket_outlives_the_deadline() -> None:
    """The deadline of the opening handshake doesn't apply to an open WebSocket. Compression is never negotiated."""
    async with serving(handshake_timeout_s=0.1) as server:
        async with raw(server, more="Sec-WebSocket-Extensions: permessage-deflate\r\n") as connection:
            await asyncio.sleep(0.2)
            connection.writer.write(masked(b'{"type":"ping","id":"1","t":5}', TEXT))
            async with asyncio.timeout(10):
                await connection.reader.readuntil(b'"t":5')


async def test_an_opening_that_is_not_accepted_is_closed() -> None:
    """If the application fails before it accepts an upgrade, there is no 101, and the connection is closed."""
    async with serving(handshake_timeout_s=0.1) as server, raw(server) as connection:
        server.gateway.services.limits.connection_permit = _fail  # type: ignore[method-assign]
        connection.writer.write(OPENING.format(more="").encode())
        assert b"101" not in await connection.rest()


@pytest.mark.parametrize(
    ("opening", "status"),
    [
        (OPENING.format(more=f"Cookie: {'c' * 9000}\r\n"), 431),
        (OPENING.format(more="".join(f"X-{number}: 1\r\n" for number in range(150))), 431),
        (OPENING.format(more="").replace("/ws", "/ws?ticket=" + 9000 * "t"), 414),
        (OPENING.format(more="Content-Length: 2\r\n") + "{}", 400),
        (OPENING.format(more="Authorization: Bearer x\r\n"), 401),
    ],
    ids=["long header", "many headers", "long URL", "body", "invalid token"],
)
async def test_a_refused_opening_is_answered_at_once(
    opening: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The response has the usual error body, and no error is logged, whatever the reason of the refusal."""
    async with serving(auth="jwt", jwt_secret=SECRET) as server, raw(server) as connection:
        connection.writer.write(opening.encode())
        head, _, body = (await connection.rest()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert f"content-length: {len(body)}".encode() in head.lower()
        assert json.loads(body)["error"]["message"]
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def _fail() -> NoReturn:
    raise RuntimeError("not ready")


@pytest.mark.parametrize("fragments", [70, 5000])
async def test_too_many_fragments_close_4400(fragments: int) -> None:
    """A message has at most 64 fragments, including empty ones.

    With thousands of them, the client may see a reset connection instead of the close frame.
    """
    async with serving() as server, raw(server, more="") as connection:
        connection.writer.write(masked(b"{", TEXT, fin=False) + masked(b"", CONTINUATION, fin=False) * fragments)
        if fragments < 100:
            assert await connection.closed_with() == 4400
        else:
            await connection.rest()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_message_that_takes_too_long_closes_4400(opcode: int) -> None:
    """A message whose last fragment doesn't arrive has a deadline."""
    async with serving(message_timeout_s=0.1) as server, raw(server, more="") as connection:
        connection.writer.write(masked(b"{", opcode, fin=False))
        assert await connection.closed_with() == 4400


async def test_a_fragmented_message_in_time_is_read() -> None:
    """Fragments within the limits are accepted, and the deadline ends with the message."""
    async with serving(message_timeout_s=0.1) as server, raw(server, more="") as connection:
        frame = b'{"type":"ping","id":"1","t":5}'
        pieces = [frame[n : n + 3] for n in range(0, len(frame), 3)]
        for n, piece in enumerate(pieces):
            connection.writer.write(masked(piece, TEXT if n == 0 else CONTINUATION, fin=n == len(pieces) - 1))
        async with asyncio.timeout(10):
            await connection.reader.readuntil(b'"t":5')
        await asyncio.sleep(0.2)
        connection.writer.write(masked(b'{"type":"ping","id":"2","t":6}', TEXT))
        async with asyncio.timeout(10):
            await connection.reader.readuntil(b'"t":6')


async def test_no_frame_is_sent_after_the_close_frame() -> None:
    """A ping that arrives after the server's close isn't answered.

    A ping before the client's close is answered, even if both are in one segment.
    """
    async with serving() as server, raw(server, more="") as connection:
        connection.writer.write(masked(b"early", PING) + masked(b'{"type":"ping"}', BINARY))
        async with asyncio.timeout(10):
            received = await connection.reader.readuntil(b"not binary.")
        assert b"\x8a\x05early" in received
        connection.writer.write(masked(b"late", PING) * 3)
        await asyncio.sleep(0.05)
        connection.writer.write(masked(b"\x03\xeb", CLOSE))
        assert await connection.reader.read() == b""
    async with serving() as server, raw(server, more="") as connection:
        connection.writer.write(masked(b"early", PING) + masked(b"\x03\xe8", CLOSE))
        received = await connection.rest()
        assert b"\x8a\x05early\x88\x02\x03\xe8" in received


async def test_invalid_utf8_closes_1007(caplog: pytest.LogCaptureFixture) -> None:
    """No traceback is logged, because it is the client's error."""
    async with serving() as server, raw(server, more="") as connection:
        connection.writer.write(masked(b"\xff\xfe", TEXT))
        assert await connection.closed_with() == 1007
    assert "Traceback" not in caplog.text


async def test_a_protocol_error_closes_1002() -> None:
    """An unmasked frame ends the connection, even if the client doesn't answer the close frame."""
    async with serving(close_timeout_s=0.1) as server, raw(server, more="") as connection:
        connection.writer.write(b"\x81\x05hello")  # an unmasked frame
        assert await connection.closed_with() == 1002


async def test_a_message_that_is_too_large_closes_1009() -> None:
    """A message over `frame_bytes` closes the connection."""
    async with serving(frame_bytes=2048) as server, client(server.ws_url) as c:
        await c.send_raw("x" * 3000)
        assert (await c.until_closed())[0] == 1009


@asynccontextmanager
async def flooded(server: InLoopServer) -> AsyncIterator[asyncio.StreamWriter]:
    """Connect a client that requests much output and reads none of it, so that all buffers are full."""
    reader, writer = await asyncio.open_connection(sock=small_buffer_socket(server.url), limit=1024)
    writer.write(OPENING.format(more="").encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    start = b'{"type":"turn.start","turn":"t","input":"Hi","params":{"demo":{"rate":0,"tokens":60000}}}'
    writer.write(masked(start, TEXT))
    await eventually(lambda: is_full(server))
    try:
        yield writer
    finally:
        writer.transport.abort()


def is_full(server: InLoopServer) -> bool:
    """Return whether a connection's write buffer is full, or all connections are gone already."""
    found = server.server.server_state.connections
    return not found or any(one.transport.get_write_buffer_size() > 32_768 for one in found)


async def until_gone(server: InLoopServer) -> None:
    """Wait until no socket is left."""
    await eventually(lambda: not server.server.server_state.connections)


async def test_a_client_that_answers_no_ping_is_disconnected() -> None:
    """A ping timeout aborts the socket even if the buffers are full and the client doesn't read the close frame."""
    async with serving(ping_interval_s=0.2, ping_timeout_s=0.2, outbox_bytes=2**26) as server:
        async with flooded(server):
            await until_gone(server)


async def test_a_closing_client_that_reads_nothing_is_disconnected() -> None:
    """If the client doesn't read the server's close frame, the socket is closed after the close timeout."""
    async with serving(close_timeout_s=0.2, outbox_bytes=2**26) as server, flooded(server) as writer:
        writer.write(masked(b"", CLOSE))
        await until_gone(server)


async def test_a_client_that_reads_nothing_cannot_delay_the_close() -> None:
    """Law 11: if a client exceeds the bound of its outbox and reads nothing, its socket is aborted after the close
    timeout."""
    async with serving(close_timeout_s=0.2, outbox_bytes=65_536) as server, flooded(server):
        await until_gone(server)


async def test_a_shutdown_does_not_wait_for_a_stalled_client() -> None:
    """The shutdown ends although a client reads nothing, and so doesn't answer the close frame."""
    async with asyncio.timeout(15):
        async with serving(close_timeout_s=0.2) as server, raw(server, more="") as connection:
            connection.writer.transport.pause_reading()  # type: ignore[attr-defined]


async def test_the_send_buffer_of_a_socket_is_small() -> None:
    """The kernel's buffer is bounded, so that a slow reader is detected soon."""
    async with serving() as server, client(server.ws_url) as c:
        await c.request("ping")
        (protocol,) = [one for one in server.server.server_state.connections if hasattr(one, "handshake_complete")]
        raw_socket = protocol.transport.get_extra_info("socket")
        # Linux doubles the requested size.
        assert raw_socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * 64 * 1024


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_a_frame_equals_the_librarys(size: int) -> None:
    """This covers the limits of each length encoding, for text and binary frames."""
    payload = b"x" * size
    assert encode_frame(WHOLE_TEXT, payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)
    assert encode_frame(WHOLE_BINARY, payload) == Frame(Opcode.BINARY, payload).serialize(mask=False)


async def test_a_segment_of_many_frames_is_parsed_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 frames at once don't block the event loop: other tasks run between two slices, and no frame is lost."""
    other_steps = 0
    parsed: list[tuple[int, int]] = []
    parse = WebSocketsSansIOProtocol.data_received

    def recorded(self: WebSocketsSansIOProtocol, data: bytes) -> None:
        parsed.append((len(data), other_steps))
        parse(self, data)

    monkeypatch.setattr(WebSocketsSansIOProtocol, "data_received", recorded)

    async def other() -> None:
        nonlocal other_steps
        while True:
            await asyncio.sleep(0)
            other_steps += 1

    async with serving() as server, raw(server, more="") as connection, asyncio.TaskGroup() as group:
        beside = group.create_task(other())
        connection.writer.write(masked(b"", PONG) * 20_000 + masked(b"last", PING))
        await asyncio.wait_for(connection.reader.readuntil(b"\x8a\x04last"), 20)
        beside.cancel()
    assert sum(size for size, _ in parsed) >= 6 * 20_000
    assert max(size for size, _ in parsed) <= PARSE_SLICE_BYTES
    assert len({step for _, step in parsed}) > 20


async def test_pongs_for_a_client_that_reads_none_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a client reads no pongs, most of the pings that it sends aren't answered, so that no pongs pile up in
    memory."""
    handled = 0
    handle = BoundedWebSocket.handle_ping

    def counted(self: BoundedWebSocket) -> None:
        nonlocal handled
        handled += 1
        handle(self)

    monkeypatch.setattr(BoundedWebSocket, "handle_ping", counted)
    async with serving() as server:
        reader, writer = await asyncio.open_connection(
            sock=small_buffer_socket(f"http://127.0.0.1:{server.port}"), limit=4096
        )
        writer.write(OPENING.format(more="").encode())
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(100):
            writer.write(masked(b"x" * 100, PING) * 300)
            await asyncio.wait_for(writer.drain(), 10)
        await eventually(lambda: handled == 30_000)
        writer.write(masked(b"", CLOSE))
        received = await Raw(reader, writer).rest()
        count = received.count(b"\x8a\x64" + b"x" * 100)
        assert 0 < count < 15_000, f"{count} of 30,000, {len(received)}"
        writer.close()
