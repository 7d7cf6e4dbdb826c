"""An answer's body on one of aiohttp's connections: handed on in the moment in which it arrives, and watched.

A task that is woken for every piece would cost more than the rest of a token's way.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, cast

import aiohttp
import httpx2
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

_MAPPED: Final[tuple[tuple[type[BaseException], type[httpx2.TransportError]], ...]] = (
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (TimeoutError, httpx2.ReadTimeout),
    (aiohttp.ClientProxyConnectionError, httpx2.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx2.ProxyError),
    (aiohttp.ClientConnectorError, httpx2.ConnectError),
    (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx2.UnsupportedProtocol),
    (aiohttp.ServerDisconnectedError, httpx2.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx2.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx2.RemoteProtocolError),
)
REFUSAL_BYTES_MAX: Final = 64 * 1024
"""Of the body of an answer that isn't the one that was wanted."""
LARGE_READ_BYTES, SLICE_S, RESTS = 4096, 0.002, 9
"""If one read of so many bytes took more than `SLICE_S` of CPU to process, reading pauses for `RESTS` times as long."""
_CHUNK_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,6})\r\n")


class Stalled(httpx2.ReadTimeout):
    """Nothing that counts came for `waited_s`; `started`: something had come before."""

    def __init__(self, waited_s: float, *, started: bool) -> None:
        super().__init__(f"nothing came for {waited_s:g} s")
        self.waited_s = waited_s
        self.started = started


class _Tap(asyncio.Protocol):
    """In front of aiohttp's protocol on one connection: tells the body that is read there when something was parsed.

    Whole chunks of an answer that its reader waits for go past aiohttp's parser: on a token's way that is a third of
    all that Python does. The parser gets everything else, the end too, and doesn't miss what lies between two chunks.
    """

    def __init__(self, parser: ResponseHandler) -> None:
        self._parser = parser
        self.body: Body | None = None
        self._between_chunks = False
        """Whether what comes next begins a chunk, for sure."""

    @classmethod
    def on(cls, connection: Connection | None) -> _Tap | None:
        """The one on this connection; None if there is no connection any more."""
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
        """Why no more can be parsed. The answer that is read is not told when the reason is in its own framing."""
        return self._parser.exception()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. If processing took too long, pause reading so that other connections are served."""
        began = time.thread_time() if len(data) >= LARGE_READ_BYTES else None
        self._receive(data)
        if began is not None and (took_s := time.thread_time() - began) > SLICE_S:
            self._rest(took_s * RESTS)

    def _rest(self, seconds: float) -> None:
        transport = self._parser.transport
        if transport is not None and not transport.is_closing() and transport.is_reading():
            transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._read_on, transport)

    def _read_on(self, transport: asyncio.Transport) -> None:
        # aiohttp itself stops reading where nobody takes what came, and reads on when somebody does.
        held = any(getattr(self._parser, name, False) for name in ("_reading_paused", "_buffer_paused"))
        if not held and not transport.is_closing():
            transport.resume_reading()

    def _receive(self, data: bytes) -> None:
        body = self.body
        if body is None:
            self._between_chunks = False
            self._parser.data_received(data)
            return
        if self._between_chunks:
            begin = self._hand_over(data, body)
            if begin == len(data):
                return
            data = data[begin:]
        self._parser.data_received(data)
        # A chunk of events ends in a line's end, which no chunk's size does.
        self._between_chunks = data.endswith(b"\n\r\n") and body.is_at_chunk_end
        body.arrived()

    def _hand_over(self, data: bytes, body: Body) -> int:
        """Give the body the whole chunks that `data` begins with, while it takes them; where they end."""
        begin = 0
        while (size := _CHUNK_SIZE.match(data, begin)) is not None:
            content = size.end()
            end = content + int(size[1], 16)
            if end == content or data[end : end + 2] != b"\r\n" or not body.took(data[content:end]):
                break
            begin = end + 2
        return begin

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""
        self._parser.eof_received()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._parser.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._parser.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._parser.connection_lost(exc)
        if self.body is not None:
            self.body.arrived()


class Body(httpx2.AsyncByteStream):
    """An answer's body. Its watch closes the connection when `due_in` was not called in time.

    The watch is one lazy timer: putting it off is an assignment, not a timer's cancelling and making.
    """

    def __init__(self, response: aiohttp.ClientResponse, waited_s: float, due: float) -> None:
        self._response = response
        self._content = response.content
        self._is_plain = "Content-Encoding" not in response.headers
        self._tap = _Tap.on(response.connection)
        if self._tap is not None:
            self._tap.body = self
        self._loop = asyncio.get_running_loop()
        self._waited_s = waited_s
        self._due = due
        self._waiter: asyncio.Future[bool] | None = None
        self._take: Callable[[bytes], bool] = bool
        self._started = False
        self._stalled: Stalled | None = None
        self._timer = self._loop.call_at(due, self._watch)

    async def read(self) -> bytes:
        """What has arrived, or the next that arrives; empty at the end. Raises httpx2's transport errors."""
        pieces: list[bytes] = []

        def take(piece: bytes) -> bool:
            pieces.append(piece)
            return False

        await self.each(take)
        return b"".join(pieces)

    async def beginning(self, bytes_max: int, within_s: float) -> bytes:
        """At most so many bytes, of what comes in time, and then the body is closed. How it ends doesn't matter."""
        pieces: list[bytes] = []
        left = bytes_max

        def take(piece: bytes) -> bool:
            nonlocal left
            pieces.append(piece)
            left -= len(piece)
            return left >= 0

        self.due_in(within_s)
        try:
            await self.each(take)
        except httpx2.TransportError:
            pass
        finally:
            await self.aclose()
        return b"".join(pieces)[:bytes_max]

    async def each(self, take: Callable[[bytes], bool]) -> bool:
        """Give `take` every piece as it arrives, until it answers False, or the end: that returns False.

        What arrives while nobody waits here stays where aiohttp bounds it. Raises httpx2's transport errors, and what
        `take` raises.
        """
        self._take = take
        try:
            goes_on = self._hand_on()
            if goes_on is None:
                self._waiter = self._loop.create_future()
                goes_on = await self._waiter
            return goes_on
        except (aiohttp.ClientError, OSError) as error:
            raise self._stalled or mapped(error) from error
        finally:
            self._waiter = None
            self._take = bool  # who takes holds this body: an answer that is over isn't left to the collector of cycles

    def _hand_on(self) -> bool | None:
        """Hand on what is there. None: more is wanted; False: it was the end."""
        while piece := self._content.read_nowait():
            if not self._take(piece):
                return True
        if self._content.at_eof():
            return False
        failure = None if self._tap is None else self._tap.failure
        if failure is not None:
            raise aiohttp.ClientPayloadError(str(failure)) from failure
        return None

    def arrived(self) -> None:
        """There is something new: a piece, the end, a failure."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        try:
            goes_on = self._hand_on()
        except Exception as error:
            waiter.set_exception(error)
        else:
            if goes_on is not None:
                waiter.set_result(goes_on)

    @property
    def is_at_chunk_end(self) -> bool:
        """Whether the newest bytes of the answer, decoded from nothing, were a chunk's last."""
        if not self._is_plain:
            return False
        ends: Sequence[int] | None = getattr(self._content, "_http_chunk_splits", None)
        return ends is not None and len(ends) > 0 and ends[-1] == self._content.total_bytes

    def took(self, piece: bytes) -> bool:
        """Hand a piece on that aiohttp never sees, if its reader waits for it, and for nothing before it."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return False
        try:
            if not self._take(piece):
                waiter.set_result(True)
        except Exception as error:
            waiter.set_exception(error)
        return True

    def due_in(self, seconds: float) -> None:
        """Something that counts has come; the next of it is due in so many seconds."""
        self._started = True
        self._waited_s = seconds
        self._due = self._loop.time() + seconds
        if self._due < self._timer.when():
            # The first event may take longer than those after it: then the timer is late, once.
            self._timer.cancel()
            self._timer = self._loop.call_at(self._due, self._watch)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read():
            yield piece

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end: then it may serve again."""
        self._timer.cancel()
        if self._tap is not None and self._tap.body is self:
            self._tap.body = None
        if not self._response.closed or self._response.connection is not None:
            self._response.close()
            # The transport closes its socket in the loop's next pass: when this returns, that has been.
            await asyncio.sleep(0)

    def _watch(self) -> None:
        now = self._loop.time()
        if self._waiter is None:
            # Nobody is waiting: what makes this stream late is its reader, not its provider.
            self._due = now + self._waited_s
        if now < self._due:
            self._timer = self._loop.call_at(self._due, self._watch)
            return
        self._stalled = Stalled(self._waited_s, started=self._started)
        self._response.close()
        self.arrived()


def mapped(error: BaseException) -> httpx2.TransportError:
    """A failure of aiohttp's as one of httpx2's, which SDKs understand."""
    kind = next((to for source, to in _MAPPED if isinstance(error, source)), httpx2.ReadError)
    return kind(f"{type(error).__name__}: {error}")
