"""A turn's events as one HTTP response, for as long as the client reads them.

A client that doesn't read is disconnected once its outbox is over its limit, as on a socket (law 11). It can resume
with `Last-Event-ID`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import structlog
from starlette.types import Receive, Scope, Send

from gateway.dialects.base import failure_of
from gateway.dialects.stream import StreamTranslator
from gateway.http.event_formats import EventFormat
from gateway.http.session import HttpSession
from gateway.offload import offload
from gateway.protocol.events import Ending, ServerEvent, TurnDelta
from gateway.streams.pump import pump
from gateway.transport.uvicorn_http import shrink_write_buffers, transport_of

log = structlog.stdlib.get_logger("turnwire.http")

PIECE_BYTES = 64 * 1024
"""The most bytes that are sent at once, so that a slow client has a write deadline for each piece."""


async def wait_disconnected(receive: Receive) -> None:
    """Wait until the client disconnects. Call it only after the request's body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def encode_event(translator: StreamTranslator, event: ServerEvent) -> bytes:
    """Return the frames of a dialect for an event. Those of an ending may repeat a long answer."""
    if isinstance(event, Ending):
        return await offload(translator.ending_bytes, translator.encode, event)
    return translator.encode(event)


class EventStream:
    """The response that sends a session's outbox until the turn ends, the client disconnects, or the session stops.

    `on_begin` is called when the response begins. With a dialect, that is when its stream has its first bytes.
    """

    def __init__(
        self,
        session: HttpSession,
        event_format: EventFormat | StreamTranslator,
        close_timeout_s: float,
        on_begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._session = session
        self._event_format = event_format
        self._close_timeout_s = close_timeout_s
        self._on_begin = on_begin
        self._has_begun = False
        self._headers: dict[str, str] = {}

    async def respond(self, scope: Scope, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        """Send the whole response. `headers` are added to those of the stream.

        For a HEAD request the body is empty. Raise `ApiError` if the stream of a dialect fails before it has begun.
        """
        shrink_write_buffers(transport_of(scope))
        self._headers = headers
        is_head = scope["method"] == "HEAD"
        if is_head or not isinstance(self._event_format, StreamTranslator):
            await self._begin(send)
        if is_head:
            await send({"type": "http.response.body"})
            return
        loop = asyncio.get_running_loop()
        write_task = loop.create_task(self._write(send))
        disconnected = loop.create_task(wait_disconnected(receive))
        aborted = loop.create_task(self._session.aborted.wait())
        try:
            await asyncio.wait([write_task, disconnected, aborted], return_when=asyncio.FIRST_COMPLETED)
            if aborted.done():
                write_task.cancel()
                await asyncio.wait([write_task])
            if not disconnected.done():
                await self._finish(scope, send, disconnected)
        finally:
            for task in (write_task, disconnected, aborted):
                task.cancel()
            failed = await asyncio.gather(write_task, disconnected, return_exceptions=True)
        for error in failed:
            if isinstance(error, Exception):
                raise error

    async def _begin(self, send: Send) -> None:
        self._has_begun = True
        self._on_begin()
        headers = {
            "content-type": self._event_format.media_type,
            "cache-control": "no-store",
            "x-accel-buffering": "no",
            **self._headers,
        }
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})

    async def _write(self, send: Send) -> None:
        session, event_format = self._session, self._event_format

        async def send_frame(frame: bytes) -> bool:
            if isinstance(event_format, StreamTranslator):
                event = cast("ServerEvent", frame)
                is_delta = type(event) is TurnDelta  # most are
                body = event_format.encode(event) if is_delta else await encode_event(event_format, event)
                if not body:
                    return not event_format.ended
                if not self._has_begun:
                    if event_format.failure is not None:
                        return False
                    await self._begin(send)
            else:
                body = event_format.encode(frame)
            # The end of a dialect's stream may repeat the whole answer.
            for start in range(0, len(body), PIECE_BYTES):
                await send({"type": "http.response.body", "body": body[start : start + PIECE_BYTES], "more_body": True})
            session.record_sent()
            return not event_format.ended

        await pump(session.outbox, send_frame, session.wait_for_more)

    async def _finish(self, scope: Scope, send: Send, disconnected: asyncio.Task[None]) -> None:
        """End the response; abort the connection if the client doesn't read the end within `close_timeout_s`."""
        session, event_format = self._session, self._event_format
        end = b""
        if session.stop_error is not None and not event_format.ended:
            log.info("stream closing", code=session.stop_error.code)
            end = event_format.stop(session.stop_error)
        if isinstance(event_format, StreamTranslator) and event_format.is_cut:
            transport_of(scope).abort()
            await disconnected
            return
        if not self._has_begun:
            assert isinstance(event_format, StreamTranslator)
            if event_format.failure is not None:
                raise failure_of(event_format.failure)
            await self._begin(send)
        try:
            async with asyncio.timeout(self._close_timeout_s):
                await send({"type": "http.response.body", "body": end})
        except TimeoutError:
            transport_of(scope).abort()
            await disconnected
