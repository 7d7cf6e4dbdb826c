"""An incremental parser of server-sent events. It works on bytes: no I/O, no JSON. It decodes only the names of events.

Lines end with \\n, \\r or \\r\\n only, because Unicode's other line breaks may occur inside JSON.
"""

from __future__ import annotations

from typing import Final

Event = tuple[str | None, bytes]
"""The event's name, or None if the stream gave none, and its data."""

UNFRAMED: Final = ""
"""The name for lines that aren't an event: adjacent lines of another format, such as a JSON error body."""

EVENT_BYTES_MAX: Final = 8 * 1024 * 1024

END_MARK_BYTES_MAX: Final = 16

_BOM: Final = b"\xef\xbb\xbf"


class InvalidEvent(ValueError):
    """The data of a stream isn't valid in its dialect."""


class EventTooLarge(InvalidEvent):
    """An event exceeds the bound. The stream can't be parsed any further."""


class SseParser:
    """The parser of one stream. The caller passes each read to `feed`, in order, then calls `close`."""

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._bytes_max = event_bytes_max
        self._at_start = True
        """Whether no line is complete yet, so that the first one may still begin with a byte order mark."""
        self._line = bytearray()
        """The unfinished line."""
        self._after_cr = False
        """Whether the last byte was \\r. A \\n that follows belongs to it."""
        self._name: str | None = None
        self._data: list[bytes] = []
        self._unframed: list[bytes] = []
        self._size = 0
        """The number of bytes in `_data` and `_unframed`, with one line break per line."""
        self._events: list[Event] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes. Raise `EventTooLarge` if an event exceeds the bound."""
        if not (self._line or self._data or self._unframed or self._after_cr or self._name):
            # Most reads are complete events of the simplest form, so they have a fast path.
            events = _parse_simple(chunk) if len(chunk) <= self._bytes_max else None
            if events is not None:
                self._at_start = False
                return events
        return self._parse_lines(chunk)

    def close(self) -> list[Event]:
        """Return what is unfinished at the end: a last event that isn't followed by a blank line, or unframed lines."""
        if self._line:
            line = bytes(self._line)
            self._line.clear()
            self._parse_line(line.removeprefix(_BOM) if self._at_start else line)
        self._dispatch()
        events, self._events = self._events, []
        return events

    def _parse_lines(self, chunk: bytes) -> list[Event]:
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if b"\n" in chunk or b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            lines = (bytes(self._line) + chunk).splitlines(keepends=True)
            self._line.clear()
            if not lines[-1].endswith((b"\n", b"\r")):
                self._line += lines.pop()
            if self._at_start:
                lines[0] = lines[0].removeprefix(_BOM)
                self._at_start = False
            for line in lines:
                self._parse_line(line.rstrip(b"\r\n"))
        else:
            self._line += chunk
        self._check_size(len(self._line))
        events, self._events = self._events, []
        return events

    def _parse_line(self, line: bytes) -> None:
        if not line:
            self._dispatch()
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._append(self._data, value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace") or None
        elif field not in (b"", b"id", b"retry"):
            self._append(self._unframed, line)

    def _append(self, lines: list[bytes], line: bytes) -> None:
        lines.append(line)
        self._size += len(line) + 1
        self._check_size()

    def _check_size(self, unfinished_bytes: int = 0) -> None:
        if self._size + unfinished_bytes > self._bytes_max:
            raise EventTooLarge(f"event over {self._bytes_max} bytes")

    def _dispatch(self) -> None:
        if self._unframed:
            self._events.append((UNFRAMED, b"\n".join(self._unframed)))
            self._unframed.clear()
        if self._data:
            self._events.append((self._name, b"\n".join(self._data)))
            self._data.clear()
        self._name = None
        self._size = 0


def is_end_mark(data: bytes) -> bool:
    """Return whether `data` is the end mark of OpenAI's dialects, around which some hosts put quotes or blanks."""
    return len(data) < END_MARK_BYTES_MAX and b"[DONE]" in data


def _parse_simple(chunk: bytes) -> list[Event] | None:
    """Return the events of a chunk of complete `data:` and `event:`+`data:` blocks. None for any other chunk."""
    if not chunk.endswith(b"\n\n") or b"\r" in chunk:
        return None
    if chunk.startswith(b"data: ") and chunk.find(b"\n") == len(chunk) - 2:
        return [(None, chunk[6:-2])]
    events: list[Event] = []
    for block in chunk[:-2].split(b"\n\n"):
        name: str | None = None
        if block.startswith(b"event: "):
            first, _, block = block[7:].partition(b"\n")
            name = first.decode("utf-8", "replace") or None
        if not block.startswith(b"data: ") or b"\n" in block:
            return None
        events.append((name, block[6:]))
    return events
