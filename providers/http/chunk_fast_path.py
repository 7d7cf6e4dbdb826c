"""A shortcut for the chunks of a response on an aiohttp connection: complete ones bypass aiohttp's parser.

It relies on inner parts of aiohttp. If they aren't as expected, the parser gets everything.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Final, cast

from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

if TYPE_CHECKING:
    from providers.http.body import ResponseBody

LARGE_READ_BYTES, SLICE_S, PAUSE_FACTOR = 4096, 0.002, 9
"""If a read of at least `LARGE_READ_BYTES` takes more than `SLICE_S` of CPU time to process, reading pauses for
`PAUSE_FACTOR` times as long."""
TOGETHER_BYTES_MAX: Final = 4096
"""How many bytes of chunks are passed on together. A longer chunk is passed alone, because it may need another thread."""
_CHUNK_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,6})\r\n")


class ChunkFastPath(asyncio.Protocol):
    """A wrapper of aiohttp's protocol on one connection that notifies the body when something was parsed.

    Complete chunks bypass aiohttp's parser if the reader waits for them, which saves a third of the Python work per
    token. The parser gets everything else, including the end. It doesn't notice the chunks that it misses, because
    they are complete.
    """

    def __init__(self, parser: ResponseHandler) -> None:
        self._parser = parser
        self.body: ResponseBody | None = None
        self._between_chunks = False
        """Whether the next byte is certain to begin a chunk."""

    @classmethod
    def on(cls, connection: Connection | None) -> ChunkFastPath | None:
        """Return the wrapper on this connection, and install one if needed. None if the connection is closed."""
        transport = connection and connection.transport
        if transport is None:
            return None
        protocol = transport.get_protocol()
        if not isinstance(protocol, cls):
            protocol = cls(cast("ResponseHandler", protocol))
            transport.set_protocol(protocol)
        return protocol

    @property
    def failure(self) -> BaseException | None:
        """The exception that stopped the parser, or None. aiohttp doesn't report framing errors to the response."""
        return self._parser.exception()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. If processing took too long, pause reading so that other connections are served."""
        if len(data) < LARGE_READ_BYTES:
            # Most reads are one chunk. Another function would cost as much as all that is done here.
            size = _CHUNK_SIZE.match(data) if self._between_chunks else None
            if (
                size is None
                or self.body is None
                or not 2 < len(data) - (begin := size.end()) == int(size[1], 16) + 2
                or not data.endswith(b"\r\n")
                or not self.body.offer(data[begin:-2])
            ):
                self._receive(data)
            return
        start_s = time.thread_time()
        self._receive(data)
        if (duration_s := time.thread_time() - start_s) > SLICE_S:
            self._pause_reading(duration_s * PAUSE_FACTOR)

    def _pause_reading(self, seconds: float) -> None:
        transport = self._parser.transport
        if transport is not None and not transport.is_closing() and transport.is_reading():
            transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._resume_reading, transport)

    def _resume_reading(self, transport: asyncio.Transport) -> None:
        # aiohttp pauses reading while its buffer is full, and resumes it itself when the buffer is read.
        is_paused = any(getattr(self._parser, name, False) for name in ("_reading_paused", "_buffer_paused"))
        if not is_paused and not transport.is_closing():
            transport.resume_reading()

    def _receive(self, data: bytes) -> None:
        body = self.body
        if body is None:
            self._between_chunks = False
            self._parser.data_received(data)
            return
        if self._between_chunks:
            begin = self._pass_chunks(data, body)
            if begin == len(data):
                return
            data = data[begin:]
        self._parser.data_received(data)
        # A chunk of events ends with two line breaks: \n at the end of its content, then the \r\n that ends the chunk.
        # The line that gives a chunk's size ends with \r\n alone, so data that ends after that line doesn't match.
        self._between_chunks = data.endswith(b"\n\r\n") and body.is_at_chunk_end
        body.notify()

    def _pass_chunks(self, data: bytes, body: ResponseBody) -> int:
        """Pass the complete chunks at the start of `data` to `body` while it accepts them. Return their end offset.

        Those of one read are passed together, so that they are decoded and sent together.
        """
        begin = passed = 0
        contents: list[bytes] = []
        while (size := _CHUNK_SIZE.match(data, begin)) is not None:
            content = size.end()
            end = content + int(size[1], 16)
            if end == content or data[end : end + 2] != b"\r\n":
                break
            if contents and end - passed > TOGETHER_BYTES_MAX:
                if not body.offer(b"".join(contents)):
                    return passed
                contents.clear()
                passed = begin
            contents.append(data[content:end])
            begin = end + 2
        return begin if contents and body.offer(b"".join(contents)) else passed

    def eof_received(self) -> None:
        """Pass the end of the data to aiohttp's protocol. See `asyncio.Protocol`."""
        self._parser.eof_received()

    def pause_writing(self) -> None:
        """Tell aiohttp's protocol to pause writing. See `asyncio.Protocol`."""
        self._parser.pause_writing()

    def resume_writing(self) -> None:
        """Tell aiohttp's protocol to resume writing. See `asyncio.Protocol`."""
        self._parser.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the loss of the connection to aiohttp's protocol, and notify the body. See `asyncio.Protocol`."""
        self._parser.connection_lost(exc)
        if self.body is not None:
            self.body.notify()
