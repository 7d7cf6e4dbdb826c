"""Server-sent events: frames, and comments that are frames."""

from __future__ import annotations

import msgspec

from turnwire.client.codecs import JSON, Frame


class EventParser:
    """Makes frames of pieces of a stream. `retry_s` is the wait before a reconnect, if the gateway has named one."""

    def __init__(self) -> None:
        self.retry_s: float | None = None
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[Frame]:
        """Return the frames that are complete. Raise `msgspec.DecodeError` if one can't be decoded."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return [frame for line in lines if (frame := self._line(line.rstrip(b"\r"))) is not None]

    def _line(self, line: bytes) -> Frame | None:
        if not line:
            data, self._data = self._data, []
            return JSON.decode(b"\n".join(data)) if data else None
        if line.startswith(b":"):
            return _comment(line[1:].strip())
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"retry" and value.isdigit():
            self.retry_s = int(value) / 1000
        return None


def _comment(text: bytes) -> Frame | None:
    """Return the frame in a comment: one without a number, such as `going_away`. Others say nothing."""
    try:
        return JSON.decode(text) if text.startswith(b"{") else None
    except msgspec.DecodeError:
        return None
