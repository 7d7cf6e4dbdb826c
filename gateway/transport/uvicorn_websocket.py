"""Our bounds on uvicorn's WebSockets: no client can keep a socket, or the loop, that it doesn't serve.

What uvicorn leaves open: a ping timeout and a close wait for a full buffer for ever (abort), an opening or a fragmented
message has no deadline (it gets one), thousands of frames are parsed at once (slices). HTTP's are in `http_wire.py`.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio.transports import BaseTransport
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from starlette.types import Scope
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import HeaderLineTooLong, RequestLineTooLong, TooManyHeaders
from websockets.frames import Frame
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS
from websockets.protocol import OPEN

from gateway.protocol.codec import BY_SUBPROTOCOL, JSON
from gateway.protocol.errors import ApiError, CloseCode
from gateway.settings import Settings
from gateway.transport.uvicorn_http import SEND_BUFFER_BYTES, WRITE_BUFFER_HIGH_BYTES, BoundedHttp

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent

FRAGMENTS_MAX = 64
PARSED_AT_ONCE_BYTES = 2048
"""At most some hundred frames, and some milliseconds in which nobody else is served."""
EXTENSION = "turnwire.websocket"
TEXT, BINARY = 0x81, 0x82
"""The first byte of a message in one frame."""


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """WebSocket with bounds on the opening, on messages, on what is buffered, and on the close."""

    settings: Settings
    _opening_timer: asyncio.TimerHandle | None = None
    _message_timer: asyncio.TimerHandle | None = None
    _abort_timer: asyncio.TimerHandle | None = None
    _unparsed = b""

    def data_received(self, data: bytes) -> None:
        """Parse a slice, and the rest of it when the others had their turn. Until then nothing more is read."""
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
        data, self._unparsed = self._unparsed[:PARSED_AT_ONCE_BYTES], self._unparsed[PARSED_AT_ONCE_BYTES:]
        super().data_received(data)
        self._refuse_unreadable_opening()
        if self._unparsed:
            self.loop.call_soon(self._parse_slice)
        elif not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    async def run_asgi(self) -> None:
        """As uvicorn's, for an application that may write frames past it."""
        self.scope["extensions"] = cast("Any", {**(self.scope["extensions"] or {}), EXTENSION: self})
        await super().run_asgi()

    @property
    def takes_frames(self) -> bool:
        """Whether a frame that is written now doesn't have to wait."""
        return (
            self.conn.state is OPEN
            and self.writable.is_set()
            and not self.close_sent
            and not self.transport.is_closing()
        )

    def write_frame(self, opcode: int, payload: bytes) -> None:
        """Write a message, while `takes_frames`: as the protocol would, in one piece and without a task."""
        self.transport.write(frame_of(opcode, payload))

    async def receive(self) -> ASGIReceiveEvent:
        """As uvicorn's, which reads on when it has nothing more for the application; we may."""
        message = await super().receive()
        if self._unparsed and not self.transport.is_closing():
            self.transport.pause_reading()
        return message

    def handle_ping(self) -> None:
        """Answer, unless the close frame is sent, or the client doesn't read what it was answered before."""
        if self.close_sent or self.transport.get_write_buffer_size() > WRITE_BUFFER_HIGH_BYTES:
            self.conn.data_to_send()
            return
        super().handle_ping()

    def connection_made(self, transport: BaseTransport) -> None:
        """Bound the buffers and the opening."""
        super().connection_made(transport)
        self.close_timeout = self.settings.close_timeout_s
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH_BYTES)
        raw = cast("socket.socket | None", transport.get_extra_info("socket"))
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._opening_timer = self.loop.call_later(self.settings.handshake_timeout_s, self._check_opening)

    def _refuse_unreadable_opening(self) -> None:
        """uvicorn leaves an opening without an answer where the library can't read its head."""
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(_refusal_of_head(self.conn.handshake_exc))
            self.transport.close()

    def _check_opening(self) -> None:
        if not self.handshake_complete:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the deadlines."""
        for timer in (self._opening_timer, self._message_timer, self._abort_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        """A client that doesn't answer a ping doesn't read: waiting for the buffer would be for ever."""
        super().keepalive_timeout()
        self.transport.abort()

    def shutdown(self) -> None:
        """The server stops: close, and don't wait for ever for a client that doesn't read."""
        super().shutdown()
        self._abort_later()

    def handle_close(self, event: Frame) -> None:
        """The client closes: answer, and don't wait for ever until it has read the answer."""
        super().handle_close(event)
        self._abort_later()

    def handle_parser_exception(self) -> None:
        """The client broke the protocol: say so, and don't wait for ever until it has read that."""
        super().handle_parser_exception()
        self._abort_later()

    def _abort_later(self) -> None:
        if self._abort_timer is None:
            self._abort_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    def handle_text(self, event: Frame) -> None:
        """Bound a message that comes in fragments."""
        super().handle_text(event)
        self._bound_message(event)

    def handle_bytes(self, event: Frame) -> None:
        """Bound a message that comes in fragments."""
        super().handle_bytes(event)
        self._bound_message(event)

    def handle_cont(self, event: Frame) -> None:
        """Bound a message that comes in fragments."""
        super().handle_cont(event)
        self._bound_message(event)

    def _bound_message(self, event: Frame) -> None:
        if event.fin:
            if self._message_timer is not None:
                self._message_timer.cancel()
                self._message_timer = None
        elif self._message_timer is None:
            timeout_s = self.settings.message_timeout_s
            self._message_timer = self.loop.call_later(timeout_s, self._break, "a message took too long")
        elif len(self.frames) > FRAGMENTS_MAX:
            self._break(f"a message has at most {FRAGMENTS_MAX} fragments")

    def _break(self, reason: str) -> None:
        if self.close_sent or self.transport.is_closing():
            return
        self.conn.fail(CloseCode.PROTOCOL_BROKEN, reason)
        self.handle_parser_exception()

    def send_receive_event_to_app(self) -> None:
        """Refuse what isn't UTF-8 quietly: it is the client's fault and no news for the log."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.fail(CloseCode.INVALID_UTF8, "not UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    async def send(self, message: ASGISendEvent) -> None:
        """As uvicorn's, but a close frame doesn't wait for a full buffer, and never outlives its timeout."""
        if (self.close_sent and self.initial_response is None) or self.transport.is_closing():
            raise ClientDisconnected  # a transport that was aborted takes nothing, and says so by a RuntimeError
        if message["type"] != "websocket.close" or not self.handshake_complete:
            await super().send(message)
            if message["type"] == "websocket.http.response.body" and self.close_sent:
                self.handshake_complete = True  # it is refused, and no error of ours
                self._abort_later()
            return
        self.writable.set()
        await super().send(message)
        if self.close_timer is not None:
            self.close_timer.cancel()
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)


def _refusal_of_head(error: Exception) -> bytes:
    refused = ApiError("invalid_request", "The opening isn't a WebSocket's: it is a GET of HTTP/1.1 without a body.")
    status = HTTPStatus.BAD_REQUEST
    if isinstance(error, HeaderLineTooLong | TooManyHeaders):
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        refused = ApiError("too_large", f"An opening has at most {MAX_NUM_HEADERS} headers of {MAX_LINE_LENGTH} bytes.")
    elif isinstance(error, RequestLineTooLong):
        status = HTTPStatus.REQUEST_URI_TOO_LONG
        refused = ApiError("too_large", f"The address of an opening has at most {MAX_LINE_LENGTH} bytes.")
    body = JSON.encode({"error": refused.body, "subprotocols": list(BY_SUBPROTOCOL)})
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body


def socket_of(scope: Scope) -> BoundedWebSocket | None:
    """The socket that the application behind `scope` serves; None behind another server than ours."""
    found = scope.get("extensions", {}).get(EXTENSION)
    return found if isinstance(found, BoundedWebSocket) else None


def frame_of(opcode: int, payload: bytes) -> bytes:
    """A whole unmasked message as one frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (opcode, size, payload)
    if size < 65536:
        return b"%c\x7e%b%b" % (opcode, size.to_bytes(2), payload)
    return b"%c\x7f%b%b" % (opcode, size.to_bytes(8), payload)


def bounded(settings: Settings) -> dict[str, Any]:
    """The protocol classes for uvicorn's `Config`, with these settings."""
    return {
        "http": type("Http", (BoundedHttp,), {"settings": settings}),
        "ws": type("WebSocket", (BoundedWebSocket,), {"settings": settings}),
    }
