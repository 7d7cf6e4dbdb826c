"""The body of a response on an aiohttp connection, with a timeout.

A callback gets each piece as it arrives, outside any task: waking a task for every piece would cost more than all other
processing of a token.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import aiohttp
import httpx2

from providers.http.chunk_fast_path import ChunkFastPath
from providers.http.gunzip import Gunzip, is_x_gzip
from providers.http.transport_errors import Stalled, map_error


class ResponseBody(httpx2.AsyncByteStream):
    """The body of a response. If a reader still waits at the deadline, the connection closes.

    `extend_deadline` and `show_life` move the deadline.
    The timeout is one lazy timer. Extending it is usually an assignment, without cancelling and creating a timer.
    """

    def __init__(self, response: aiohttp.ClientResponse, timeout_s: float, deadline: float) -> None:
        self._response = response
        self._content = response.content
        encoding = response.headers.get("Content-Encoding")
        self._is_plain = encoding is None
        self._decoded = Gunzip(self._content) if is_x_gzip(encoding or "") else self._content
        self._fast_path = ChunkFastPath.on(response.connection)
        if self._fast_path is not None:
            self._fast_path.body = self
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._deadline = deadline
        self._progress_at = deadline - timeout_s
        """When the last progress was reported, or the request was sent, on the loop's clock.

        If no reader waits when the timer fires, this is reset to that time.
        """
        self._is_alive = False
        """Whether only signs of life have kept the body open since the last progress."""
        self._waiter: asyncio.Future[bool] | None = None
        self._consume: Callable[[bytes], bool] = bool
        self._started = False
        self._stalled: Stalled | None = None
        self._timer = self._loop.call_at(deadline, self._check_deadline)

    async def read(self) -> bytes:
        """Return the bytes that have arrived, or wait for the next ones. Return b"" at the end.

        Raise httpx2's transport errors.
        """
        pieces: list[bytes] = []

        def append(piece: bytes) -> bool:
            pieces.append(piece)
            return False

        await self.read_each(append)
        return b"".join(pieces)

    async def read_start(self, bytes_max: int, within_s: float) -> bytes:
        """Return at most `bytes_max` bytes that arrive within `within_s` seconds, and close the body.

        Ignore transport errors.
        """
        pieces: list[bytes] = []
        remaining = bytes_max

        def append(piece: bytes) -> bool:
            nonlocal remaining
            pieces.append(piece)
            remaining -= len(piece)
            return remaining >= 0

        self.extend_deadline(within_s)
        try:
            await self.read_each(append)
        except httpx2.TransportError:
            pass
        finally:
            await self.aclose()
        return b"".join(pieces)[:bytes_max]

    async def read_each(self, consume: Callable[[bytes], bool]) -> bool:
        """Pass every piece to `consume` as it arrives. Return True once `consume` returns False, and False at the end.

        Between calls, pieces stay in aiohttp's bounded buffer. Raise httpx2's transport errors and what `consume`
        raises.
        """
        self._consume = consume
        try:
            stopped = self._pass_buffered()
            if stopped is None:
                self._waiter = self._loop.create_future()
                stopped = await self._waiter
            return stopped
        except (aiohttp.ClientError, OSError) as error:
            raise self._stalled or map_error(error) from error
        finally:
            self._waiter = None
            self._consume = bool  # break the reference cycle, so that freeing the body needs no garbage collection

    def _pass_buffered(self) -> bool | None:
        """Pass on the buffered pieces. Return True if `_consume` stopped, False at the end, None if more is needed."""
        while piece := self._decoded.read_nowait():
            if not self._consume(piece):
                return True
        if self._content.at_eof():
            return False
        failure = None if self._fast_path is None else self._fast_path.failure
        if failure is not None:
            raise aiohttp.ClientPayloadError(str(failure)) from failure
        return None

    def notify(self) -> None:
        """Notify the reader of a new piece, the end, or a failure."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        try:
            stopped = self._pass_buffered()
        except Exception as error:
            del waiter
            self._fail(error)
        else:
            if stopped is not None:
                waiter.set_result(stopped)

    @property
    def is_at_chunk_end(self) -> bool:
        """Whether the newest bytes ended a chunk. False for every answer with a content encoding."""
        if not self._is_plain:
            return False
        ends: Sequence[int] | None = getattr(self._content, "_http_chunk_splits", None)
        return ends is not None and len(ends) > 0 and ends[-1] == self._content.total_bytes

    def offer(self, piece: bytes) -> bool:
        """Pass on a piece that bypasses aiohttp, if the reader waits for it. Return whether it was passed on."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return False
        try:
            if not self._consume(piece):
                waiter.set_result(True)
        except Exception as error:
            del waiter
            self._fail(error)
        return True

    def _fail(self, error: Exception) -> None:
        """Raise `error` in the reader.

        The future keeps the traceback, so no variable of a function in the traceback may refer to the future.
        """
        assert self._waiter is not None
        self._waiter.set_exception(error)

    def extend_deadline(self, seconds: float) -> None:
        """Report progress. The next progress is due within `seconds`."""
        self._started = True
        self._timeout_s = seconds
        self._progress_at = self._loop.time()
        self._is_alive = False
        self._deadline = self._progress_at + seconds
        if self._deadline < self._timer.when():
            # The first event may have a longer timeout than later ones, so the timer may be set too late once.
            self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)

    def show_life(self, seconds: float, limit_s: float) -> None:
        """Report that something arrived that isn't progress. The next sign of life is due within `seconds`.

        This extends the deadline to at most `limit_s` after the last progress, and never shortens it.
        """
        deadline = min(self._loop.time() + seconds, self._progress_at + limit_s)
        if deadline > self._deadline:
            self._deadline = deadline
            self._is_alive = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read():
            yield piece

    async def aclose(self) -> None:
        """Close the connection. If the body was read to its end, leave the connection open for the next request."""
        self._timer.cancel()
        if self._fast_path is not None and self._fast_path.body is self:
            self._fast_path.body = None
        if not self._response.closed or self._response.connection is not None:
            self._response.close()
            # The transport closes its socket in the next iteration of the loop. Wait for that.
            await asyncio.sleep(0)

    def _check_deadline(self) -> None:
        now = self._loop.time()
        if self._waiter is None:
            # Nothing waits for data, so the delay is caused by the reader, not by the provider.
            self._deadline = now + self._timeout_s
            self._progress_at = now
        if now < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)
            return
        waited_s = round(now - self._progress_at, 1) if self._is_alive else self._timeout_s
        self._stalled = Stalled(waited_s, started=self._started, alive=self._is_alive)
        self._response.close()
        self.notify()
