"""Our bounds on uvicorn's protocol classes, over real sockets: no client keeps a socket that it doesn't
serve."""

from __future__ import annotations

import asyncio
import json
import os
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

OPENING = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)
TEXT, CONTINUATION, BINARY, CLOSE, PING, PONG = 0x1, 0x0, 0x2, 0x8, 0x9, 0xA


def masked(payload: bytes, opcode: int, *, fin: bool = True) -> bytes:
    """One client frame of at most 125 bytes."""
    key = os.urandom(4)
    body = bytes(byte ^ key[n % 4] for n, byte in enumerate(payload))
    return bytes([(0x80 if fin else 0) | opcode, 0x80 | len(payload)]) + key + body


class Raw:
    """A bare TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read(-1)
            except ConnectionResetError:
                return b""

    async def closed_with(self) -> int:
        """The code of the close frame, and that the server closed the socket."""
        said = await self.rest()
        at = said.rindex(b"\x88")
        return int.from_bytes(said[at + 2 : at + 4], "big")


@asynccontextmanager
async def raw(server: InLoopServer, *, more: str | None = None) -> AsyncIterator[Raw]:
    """Connect; with `more` headers given, behind the opening."""
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


@pytest.mark.parametrize("sent", [b"", b"GET /ws HTTP/1.1\r\nHost: 127"], ids=["nothing", "half a head"])
async def test_a_request_that_does_not_come_is_cut(sent: bytes) -> None:
    """The head of the first request has a deadline."""
    async with serving(handshake_timeout_s=0.1) as server, raw(server) as connection:
        connection.writer.write(sent)
        assert await connection.rest() == b""


async def test_a_request_in_time_is_served_beyond_the_deadline() -> None:
    """The deadline is for the head: a connection that is kept alive stays."""
    async with serving(handshake_timeout_s=0.1) as server, raw(server) as connection:
        for wait_s in (0.2, 0):
            connection.writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            head = await asyncio.wait_for(connection.reader.readuntil(b"\r\n\r\n"), 10)
            assert b"200 OK" in head
            await connection.reader.readexactly(len('{"status":"ok"}'))
            await asyncio.sleep(wait_s)


async def test_an_open_socket_stays_beyond_the_deadline() -> None:
    """A WebSocket that is open isn't an opening any more; compression is never agreed."""
    async with serving(handshake_timeout_s=0.1) as server:
        async with raw(server, more="Sec-WebSocket-Extensions: permessage-deflate\r\n") as connection:
            await asyncio.sleep(0.2)
            connection.writer.write(masked(b'{"type":"ping","id":"1","t":5}', TEXT))
            async with asyncio.timeout(10):
                await connection.reader.readuntil(b'"t":5')


async def test_an_opening_without_an_end_is_cut() -> None:
    """An upgrade that the application doesn't accept in time is cut."""
    async with serving(handshake_timeout_s=0.1) as server, raw(server) as connection:
        server.gateway.services.limits.connection_permit = _never  # type: ignore[method-assign]  # the application fails before it accepts
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
    ids=["a long header", "many headers", "a long address", "a body", "no good token"],
)
async def test_an_opening_that_is_refused_is_answered_at_once(
    opening: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """With an error like every other, and no error of ours in the log, whatever is wrong with it."""
    async with serving(auth="jwt", jwt_secret=SECRET) as server, raw(server) as connection:
        connection.writer.write(opening.encode())
        head, _, body = (await connection.rest()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert f"content-length: {len(body)}".encode() in head.lower()
        assert json.loads(body)["error"]["message"]
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def _never() -> NoReturn:
    raise RuntimeError("not ready")


@pytest.mark.parametrize("fragments", [70, 5000])
async def test_too_many_fragments_close_4400(fragments: int) -> None:
    """A message has at most 64 fragments, empty or not."""
    async with serving() as server, raw(server, more="") as connection:
        connection.writer.write(masked(b"{", TEXT, fin=False) + masked(b"", CONTINUATION, fin=False) * fragments)
        if fragments < 100:
            assert await connection.closed_with() == 4400
        else:
            await connection.rest()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_message_that_takes_too_long_closes_4400(opcode: int) -> None:
    """A message whose last fragment doesn't come has a deadline."""
    async with serving(message_timeout_s=0.1) as server, raw(server, more="") as connection:
        connection.writer.write(masked(b"{", opcode, fin=False))
        assert await connection.closed_with() == 4400


async def test_a_message_in_pieces_in_time_is_read() -> None:
    """Fragments are fine within the bounds, and the deadline ends with the message."""
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


async def test_nothing_comes_behind_the_close_frame() -> None:
    """A ping that was under way is not answered any more; one that came in time is, also with a close in one segment."""
    async with serving() as server, raw(server, more="") as connection:
        connection.writer.write(masked(b"early", PING) + masked(b'{"type":"ping"}', BINARY))
        async with asyncio.timeout(10):
            said = await connection.reader.readuntil(b"not bytes.")
        assert b"\x8a\x05early" in said
        connection.writer.write(masked(b"late", PING) * 3)
        await asyncio.sleep(0.05)
        connection.writer.write(masked(b"\x03\xeb", CLOSE))
        assert await connection.reader.read() == b""
    async with serving() as server, raw(server, more="") as connection:
        connection.writer.write(masked(b"early", PING) + masked(b"\x03\xe8", CLOSE))
        said = await connection.rest()
        assert b"\x8a\x05early\x88\x02\x03\xe8" in said


async def test_what_is_not_utf8_closes_1007(caplog: pytest.LogCaptureFixture) -> None:
    """Quietly: it is the client's fault and no news for the log."""
    async with serving() as server, raw(server, more="") as connection:
        connection.writer.write(masked(b"\xff\xfe", TEXT))
        assert await connection.closed_with() == 1007
    assert "Traceback" not in caplog.text


async def test_what_breaks_the_protocol_closes_1002() -> None:
    """A frame that no client may send ends the connection, also for a client that reads nothing."""
    async with serving(close_timeout_s=0.1) as server, raw(server, more="") as connection:
        connection.writer.write(b"\x81\x05hello")  # not masked
        assert await connection.closed_with() == 1002


async def test_what_is_too_large_closes_1009() -> None:
    """A message over the bound is refused before it is read."""
    async with serving(frame_bytes=2048) as server, client(server.ws_url) as c:
        await c.send_raw("x" * 3000)
        assert (await c.until_closed())[0] == 1009


@asynccontextmanager
async def flooded(server: InLoopServer) -> AsyncIterator[asyncio.StreamWriter]:
    """A client that asked for much and reads nothing of it, so that all buffers are full."""
    reader, writer = await asyncio.open_connection(sock=small_buffer_socket(server.url), limit=1024)
    writer.write(OPENING.format(more="").encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    start = b'{"type":"turn.start","turn":"t","input":"Hi","params":{"demo":{"rate":0,"tokens":60000}}}'
    writer.write(masked(start, TEXT))
    await eventually(lambda: full(server))
    try:
        yield writer
    finally:
        writer.transport.abort()


def full(server: InLoopServer) -> bool:
    """Whether some connection's socket takes nothing more, or it is gone already."""
    found = server.server.server_state.connections
    return not found or any(one.transport.get_write_buffer_size() > 32_768 for one in found)


async def gone(server: InLoopServer) -> None:
    """Wait until no socket is left."""
    await eventually(lambda: not server.server.server_state.connections)


async def test_a_client_that_answers_no_ping_is_gone() -> None:
    """A ping timeout aborts the socket, although the buffers are full and nobody reads the close."""
    async with serving(ping_interval_s=0.2, ping_timeout_s=0.2, outbox_bytes=2**26) as server:
        async with flooded(server):
            await gone(server)


async def test_a_client_that_closes_and_reads_nothing_is_gone() -> None:
    """A close whose answer nobody reads ends after the close timeout."""
    async with serving(close_timeout_s=0.2, outbox_bytes=2**26) as server, flooded(server) as writer:
        writer.write(masked(b"", CLOSE))
        await gone(server)


async def test_a_client_that_reads_nothing_does_not_hold_the_close() -> None:
    """Law 11: 4501 to a client whose buffers are full: its socket is aborted after the close timeout."""
    async with serving(close_timeout_s=0.2, outbox_bytes=65_536) as server, flooded(server):
        await gone(server)


async def test_a_stop_does_not_wait_for_a_client_that_reads_nothing() -> None:
    """The shutdown closes every socket within the close timeout."""
    async with asyncio.timeout(15):
        async with serving(close_timeout_s=0.2) as server, raw(server, more="") as connection:
            connection.writer.transport.pause_reading()  # type: ignore[attr-defined]


async def test_little_is_buffered_for_one_socket() -> None:
    """The kernel's buffer is bounded, so that a slow reader is felt soon."""
    async with serving() as server, client(server.ws_url) as c:
        await c.request("ping")
        (protocol,) = [one for one in server.server.server_state.connections if hasattr(one, "handshake_complete")]
        raw_socket = protocol.transport.get_extra_info("socket")
        # Linux doubles what is asked for.
        assert raw_socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * 64 * 1024


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_a_frame_is_what_the_library_would_write(size: int) -> None:
    """At the border of each form of the length, as text and as binary."""
    payload = b"x" * size
    assert encode_frame(WHOLE_TEXT, payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)
    assert encode_frame(WHOLE_BINARY, payload) == Frame(Opcode.BINARY, payload).serialize(mask=False)


async def test_a_segment_of_many_frames_is_parsed_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 frames at once don't keep the loop: between two slices the others have their turn, and none is lost."""
    turns_of_others = 0
    parsed: list[tuple[int, int]] = []
    parse = WebSocketsSansIOProtocol.data_received

    def noted(self: WebSocketsSansIOProtocol, data: bytes) -> None:
        parsed.append((len(data), turns_of_others))
        parse(self, data)

    monkeypatch.setattr(WebSocketsSansIOProtocol, "data_received", noted)

    async def other() -> None:
        nonlocal turns_of_others
        while True:
            await asyncio.sleep(0)
            turns_of_others += 1

    async with serving() as server, raw(server, more="") as connection, asyncio.TaskGroup() as group:
        beside = group.create_task(other())
        connection.writer.write(masked(b"", PONG) * 20_000 + masked(b"last", PING))
        await asyncio.wait_for(connection.reader.readuntil(b"\x8a\x04last"), 20)
        beside.cancel()
    assert sum(size for size, _ in parsed) >= 6 * 20_000
    assert max(size for size, _ in parsed) <= PARSE_SLICE_BYTES
    assert len({turn for _, turn in parsed}) > 20


async def test_pongs_do_not_wait_for_a_client_that_reads_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of pings that reads no answer fills no memory."""
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
        said = await Raw(reader, writer).rest()
        count = said.count(b"\x8a\x64" + b"x" * 100)
        assert 0 < count < 15_000, f"{count} of 30,000, {len(said)}"
        writer.close()
