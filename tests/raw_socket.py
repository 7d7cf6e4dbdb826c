"""Raw bytes on a connection: WebSocket frames with any bits, openings with any header lines, the gateway's frames."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

OPENING = (
    "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


@dataclass(frozen=True, repr=False)
class RawFrame:
    """A client's frame. `rsv` holds three bits. `length_bytes` is 0, 2 or 8 bytes of extended length, by default the
    fewest that suffice."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    masked: bool = True
    length_bytes: int | None = None

    def __repr__(self) -> str:
        size = len(self.payload)
        payload = repr(self.payload) if size < 200 else f"{self.payload[:1]!r} * {size}"
        return f"RawFrame({self.opcode}, {payload}, fin={self.fin}, rsv={self.rsv}, masked={self.masked})"

    def encode(self) -> bytes:
        """Return the frame's bytes on the wire."""
        size = len(self.payload)
        wide = self.length_bytes
        if wide is None:
            wide = 0 if size < 126 else 2 if size < 2**16 else 8
        mark = {0: size & 0x7F, 2: 126, 8: 127}[wide]
        head = bytes([self.fin << 7 | self.rsv << 4 | self.opcode, self.masked << 7 | mark])
        head += size.to_bytes(wide, "big") if wide else b""
        if not self.masked:
            return head + self.payload
        key = os.urandom(4)
        return head + key + bytes(byte ^ key[n % 4] for n, byte in enumerate(self.payload))


class ReceivedFrame(NamedTuple):
    """A frame from the gateway."""

    opcode: int
    payload: bytes


def read_frames(data: bytes) -> Iterator[ReceivedFrame]:
    """Yield the gateway's complete frames.

    Raises `AssertionError` for a reserved bit, a masked frame, or a payload of more than 16 KiB (law 10).
    """
    at = 0
    while at + 2 <= len(data):
        assert data[at] & 0x70 == 0, "a reserved bit"
        assert data[at + 1] & 0x80 == 0, "a server doesn't mask"
        size, start = data[at + 1], at + 2
        assert size != 127, "law 10: a 64-bit length"
        if size == 126:
            size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
        assert size <= 16_384, "law 10"
        if start + size > len(data):
            return
        yield ReceivedFrame(data[at] & 0x0F, data[start : start + size])
        at = start + size


async def connect_tcp(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a TCP connection to the gateway at http://host:port."""
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def connect_websocket(url: str, more: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection, do the opening handshake with the header lines in `more`, and read `ready`."""
    reader, writer = await connect_tcp(url)
    writer.write(OPENING.format(host=urlsplit(url).netloc, more=more).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101"), head
    first = await reader.readexactly(4)
    await reader.readexactly(int.from_bytes(first[2:4], "big"))
    return reader, writer


async def read_to_end(reader: asyncio.StreamReader, timeout_s: float = 8) -> bytes:
    """Return all bytes until the gateway closes or resets the connection. Raises `TimeoutError` if it doesn't."""
    received = b""
    async with asyncio.timeout(timeout_s):
        try:
            while piece := await reader.read(65_536):
                received += piece
        except OSError:  # a reset, or a write after the close
            pass
    return received
