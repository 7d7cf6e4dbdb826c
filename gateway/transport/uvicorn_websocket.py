"""Bounds on uvicorn's WebSockets: a client can't keep a socket open that it doesn't read, and can't block the loop.

Under uvicorn alone, a socket that is closed while its write buffer is full stays open until the client reads (here: it
is aborted). An opening or a fragmented message has no deadline (here: it has one). Thousands of frames are parsed at
once (here: in slices). The bounds on HTTP are in `uvicorn_http.py`.
"""

from __future__ import annotations

import asyncio
import random
from asyncio.transports import BaseTransport
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.protocol import OPEN

from gateway.light_event import LightEvent
from gateway.protocol.errors import CloseCode
from gateway.settings import Settings
from gateway.transport.message_queue import MessageQueue
from gateway.transport.uvicorn_http import (
    WRITE_BUFFER_HIGH_BYTES,
    BoundedHttp,
    Charge,
    charge_nobody,
    shrink_write_buffers,
)
from gateway.transport.websocket_handshake import Handshake, opening_error_response

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent

FRAGMENTS_MAX = 64
PARSE_SLICE_BYTES = 2048
"""A slice is at most a few hundred frames, and delays other connections by a few milliseconds."""
EXTENSION = "turnwire.websocket"
TEXT, BINARY = 0x81, 0x82
"""The first byte of a message that is sent as one frame."""


class FrameBatch:
    """The frames that all sockets of a server write together, in the event loop's next iteration.

    Python code between two system calls costs more than the same code in one go, and a client that is written to again
    while it is still awake needn't be woken.
    """

    def __init__(self) -> None:
        self._frames: list[tuple[BoundedWebSocket, int, bytes]] = []

    def add(self, socket: BoundedWebSocket, first_byte: int, payload: bytes) -> None:
        """Add a frame; see `BoundedWebSocket.write_frame` for `first_byte`. It is dropped if its socket closes before."""
        if not self._frames:
            socket.loop.call_soon(self._write)
        self._frames.append((socket, first_byte, payload))

    def _write(self) -> None:
        frames, self._frames = self._frames, []
        for socket, first_byte, payload in frames:
            if socket.is_open:
                socket.write_frame(first_byte, payload)


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket with bounds on the opening, messages, buffers and the close."""

    settings: Settings
    batch: FrameBatch
    _opening_timer: asyncio.TimerHandle | None = None
    _message_timer: asyncio.TimerHandle | None = None
    _abort_timer: asyncio.TimerHandle | None = None
    _work_after_opening: Coroutine[Any, Any, None] | None = None
    _unparsed = b""
    _heard: LightEvent | None = None
    """Set at each arrival of data, once `answers` has been called."""
    sent_s = 0.0
    """The time of the last frame that bypassed ASGI, in seconds on the event loop's clock."""
    heard_s = 0.0
    """The time of the last data from the client, in seconds on the event loop's clock."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.queue = cast("Any", MessageQueue())
        self.writable = cast("Any", LightEvent())
        self.writable.set()
        self.app = cast("Any", partial(_open_and_serve, self.app))
        self.conn = Handshake(max_size=self.config.ws_max_size, logger=self.logger)

    def data_received(self, data: bytes) -> None:
        """Parse one slice of `data`, and the rest after other connections are served.

        No more data is read until all of it is parsed.
        """
        self.heard_s = self.loop.time()
        if self._heard is not None:
            self._heard.set()
        waited = bool(self._unparsed)
        self._unparsed += data
        if not waited:
            self._parse_slice()
        if self._unparsed and not self.transport.is_closing():
            self.transport.pause_reading()

    def _parse_slice(self) -> None:
        if self.transport.is_closing():
            self._unparsed = b""
            return
        data, self._unparsed = self._unparsed[:PARSE_SLICE_BYTES], self._unparsed[PARSE_SLICE_BYTES:]
        super().data_received(data)
        self._reject_unreadable_opening()
        if self._unparsed:
            self.loop.call_soon(self._parse_slice)
        elif not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def run_asgi(self) -> Coroutine[Any, Any, None]:
        """Run the application, with this protocol in its scope so that it can write frames directly."""
        self.scope["extensions"] = cast("Any", {**(self.scope["extensions"] or {}), EXTENSION: self})
        return super().run_asgi()

    def serve_after_opening(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the application's task after the application has returned. The socket is closed when it ends.

        So the application's middleware and the scope don't take memory for as long as the socket is open.
        """
        self._work_after_opening = work

    def accept_messages_of(self, bytes_max: int) -> None:
        """Accept messages of up to `bytes_max` bytes from now on, instead of those of a frame of our own protocol."""
        self.conn.max_message_size = bytes_max

    @property
    def is_writable(self) -> bool:
        """Whether a frame that is written now doesn't have to wait for the socket."""
        return self.writable.is_set() and self.is_open

    @property
    def is_open(self) -> bool:
        """Whether frames may be written: the socket isn't closing."""
        return self.conn.state is OPEN and not self.close_sent and not self.transport.is_closing()

    def write_frame(self, first_byte: int, payload: bytes) -> None:
        """Write a message in one frame, without a task. `first_byte` is `TEXT` or `BINARY`. Requires `is_writable`."""
        self.transport.write(encode_frame(first_byte, payload))
        self.sent_s = self.loop.time()

    def write_frame_soon(self, first_byte: int, payload: bytes) -> bool:
        """Write a message as `write_frame` does (see there for `first_byte`), but with the frames of other sockets.

        Return False if earlier ones wait for the socket.
        """
        if self.transport.get_write_buffer_size():
            return False
        self.batch.add(self, first_byte, payload)
        return True

    async def answers(self, timeout_s: float) -> bool:
        """Ping the client. Return whether anything was received from it within `timeout_s` seconds.

        If data from the client still waits here to be read or parsed, return True without a ping.
        """
        if self.read_paused or self._unparsed:
            return True
        if not self.is_open:
            return False
        heard = self._heard = self._heard or LightEvent()
        heard.clear()
        pinged_s = self.loop.time()
        self.conn.send_ping(random.randbytes(4))
        self.transport.write(b"".join(self.conn.data_to_send()))
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await heard.wait()
        await asyncio.sleep(0)  # if the loop was held meanwhile, the answer is read only now
        return self.heard_s >= pinged_s

    async def receive(self) -> ASGIReceiveEvent:
        """Return the next event for the application.

        uvicorn resumes reading when it has no more events. Reading stays paused here while data is left to parse.
        """
        message = await super().receive()
        if self._unparsed and not self.transport.is_closing():
            self.transport.pause_reading()
        return message

    def handle_ping(self) -> None:
        """Answer a ping, unless the close frame was sent, or the client doesn't read the earlier answers."""
        if self.close_sent or self.transport.get_write_buffer_size() > WRITE_BUFFER_HIGH_BYTES:
            self.conn.data_to_send()  # drops the answer, which the library has made already
            return
        super().handle_ping()

    def connection_made(self, transport: BaseTransport) -> None:
        """Set the buffer limits and start the deadline of the opening."""
        super().connection_made(transport)
        self.close_timeout = self.settings.close_timeout_s
        shrink_write_buffers(self.transport)
        self._opening_timer = self.loop.call_later(self.settings.handshake_timeout_s, self._check_opening)

    def _reject_unreadable_opening(self) -> None:
        """Answer an opening whose head the library can't read. uvicorn sends no answer to it."""
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(opening_error_response(self.conn.handshake_exc))
            self.transport.close()

    def _check_opening(self) -> None:
        if not self.handshake_complete:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadlines."""
        for timer in (self._opening_timer, self._message_timer, self._abort_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        """Abort after a ping timeout. If the client doesn't read, waiting for the write buffer would never end."""
        super().keepalive_timeout()
        self.transport.abort()

    def shutdown(self) -> None:
        """Close because the server stops, and abort after the close timeout if the client doesn't read."""
        super().shutdown()
        self._abort_later()

    def handle_close(self, event: Frame) -> None:
        """Answer the client's close frame, and abort after the close timeout if it doesn't read the answer."""
        super().handle_close(event)
        self._abort_later()

    def handle_parser_exception(self) -> None:
        """Close after a protocol error, and abort after the close timeout if the client doesn't read."""
        super().handle_parser_exception()
        self._abort_later()

    def _abort_later(self) -> None:
        if self._abort_timer is None:
            self._abort_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    def handle_text(self, event: Frame) -> None:
        """Handle a text frame and bound a fragmented message."""
        super().handle_text(event)
        self._bound_message(event)

    def handle_bytes(self, event: Frame) -> None:
        """Handle a binary frame and bound a fragmented message."""
        super().handle_bytes(event)
        self._bound_message(event)

    def handle_cont(self, event: Frame) -> None:
        """Handle a continuation frame and bound a fragmented message."""
        super().handle_cont(event)
        self._bound_message(event)

    def _bound_message(self, event: Frame) -> None:
        if event.fin:
            if self._message_timer is not None:
                self._message_timer.cancel()
                self._message_timer = None
        elif self._message_timer is None:
            timeout_s = self.settings.message_timeout_s
            self._message_timer = self.loop.call_later(
                timeout_s,
                self._fail,
                f"The message took longer than {timeout_s:g} s. Send it faster, or make it shorter.",
            )
        elif len(self.frames) > FRAGMENTS_MAX:
            self._fail(f"The message has more than {FRAGMENTS_MAX} fragments. Send fewer, longer ones.")

    def _fail(self, reason: str) -> None:
        if self.close_sent or self.transport.is_closing():
            return
        self.conn.fail(CloseCode.PROTOCOL_BROKEN, reason)
        self.handle_parser_exception()

    def send_receive_event_to_app(self) -> None:
        """Pass the message to the application. Close without logging if text isn't UTF-8: it is the client's error."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.fail(CloseCode.INVALID_UTF8, "The text isn't UTF-8. Encode it as UTF-8.")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    async def send(self, message: ASGISendEvent) -> None:
        """Send as uvicorn does, but a close frame doesn't wait for a full buffer.

        Abort the connection if the client doesn't answer the close frame within the close timeout.

        Raises `ClientDisconnected` if the connection is closed or closing, also if it is closed while this waits.
        """
        if message["type"] == "websocket.send":
            await self.writable.wait()
        if (self.close_sent and self.initial_response is None) or self.transport.is_closing():
            raise ClientDisconnected  # an aborted transport would raise RuntimeError
        if message["type"] != "websocket.close" or not self.handshake_complete:
            await super().send(message)
            if message["type"] == "websocket.accept" and self._opening_timer is not None:
                self._opening_timer.cancel()
                self._opening_timer = None
            if message["type"] == "websocket.http.response.body" and self.close_sent:
                self.handshake_complete = True  # the opening was refused, which isn't an error
                self._abort_later()
            return
        self.writable.set()
        await super().send(message)
        if self.close_timer is not None:
            self.close_timer.cancel()
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)


async def _open_and_serve(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the application, then the work that it has left to its socket, if any."""
    await app(scope, receive, send)
    socket = websocket_of(scope)
    assert socket is not None
    work, socket._work_after_opening = socket._work_after_opening, None
    if work is not None:
        socket.scope = cast("Any", {})  # nothing reads it after the opening
        del scope, receive, send, socket
        await work


def websocket_of(scope: Scope) -> BoundedWebSocket | None:
    """Return the WebSocket that belongs to `scope`, or None under a server other than ours."""
    found = scope.get("extensions", {}).get(EXTENSION)
    return found if isinstance(found, BoundedWebSocket) else None


def encode_frame(first_byte: int, payload: bytes) -> bytes:
    """Return a whole message as one unmasked frame (RFC 6455, 5.2). `first_byte` is `TEXT` or `BINARY`."""
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (first_byte, size, payload)
    if size < 65536:
        return b"%c\x7e%b%b" % (first_byte, size.to_bytes(2), payload)
    return b"%c\x7f%b%b" % (first_byte, size.to_bytes(8), payload)


def protocol_classes(settings: Settings, charge: Charge = charge_nobody) -> dict[str, Any]:
    """Return the protocol classes with these settings, as keyword arguments for `uvicorn.Config`.

    `charge` charges clients for the time for which their HTTP is parsed.
    """
    return {
        "http": type("Http", (BoundedHttp,), {"settings": settings, "charge": staticmethod(charge)}),
        "ws": type("WebSocket", (BoundedWebSocket,), {"settings": settings, "batch": FrameBatch()}),
    }
