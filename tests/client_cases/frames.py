"""The frames of WebSockets (RFC 6455 5.2) as a relay sees them: found in the bytes of a connection, and made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

TEXT = 1
BINARY = 2
CLOSE = 8


class Frame(NamedTuple):
    """A WebSocket frame: its bytes as they came, its opcode and its unmasked payload."""

    raw: bytes
    opcode: int
    payload: bytes

    def decoded(self) -> dict[str, Any]:
        """Return the map of a data frame; a control frame gives an empty map."""
        if self.opcode == TEXT:
            found: Any = msgspec.json.decode(self.payload)
        elif self.opcode == BINARY:
            found = msgspec.msgpack.decode(self.payload)
        else:
            return {}
        return found if isinstance(found, dict) else {}


class Frames:
    """Finds the frames (RFC 6455 5.2) in the bytes of one direction of a connection, after the HTTP head."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes."""
        self._bytes += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        held = self._bytes
        if len(held) < 2:
            return None
        size, start = held[1] & 127, 2
        if size > 125:
            start = 4 if size == 126 else 10
            if len(held) < start:
                return None
            size = int.from_bytes(held[2:start], "big")
        key = b""
        if held[1] & 128:
            key, start = bytes(held[start : start + 4]), start + 4
        end = start + size
        if len(held) < end:
            return None
        payload = bytes(held[start:end])
        if key:
            whole = (key * (size // 4 + 1))[:size]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")
        frame = Frame(bytes(held[:end]), held[0] & 15, payload)
        del held[:end]
        return frame


def encoded(opcode: int, frame: dict[str, Any]) -> bytes:
    """Return an unmasked frame with this map in the codec of `opcode`."""
    payload = msgspec.json.encode(frame) if opcode == TEXT else msgspec.msgpack.encode(frame)
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + payload
