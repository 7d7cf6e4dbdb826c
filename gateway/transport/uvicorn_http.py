"""Bounds on uvicorn's HTTP: deadlines, limits on headers and on parsing, and small kernel buffers for streams.

Under uvicorn alone, a client that sends half a request, or doesn't read its response, keeps its socket forever. A
header without an end is buffered in full. Thousands of pipelined requests are parsed at once (here: one after the
other). A body of one-byte chunks takes all of the event loop's time (here: the client's share of it).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any, cast

import httptools
import structlog
from starlette.types import Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.protocol.ids import request_id_in
from gateway.settings import Settings

log = structlog.stdlib.get_logger("turnwire.http")
UVICORN_WARNING = "Invalid HTTP request received."

FRAMING_BYTES_MAX = 64 * 1024
"""The limit for all bytes that aren't body: head, chunk sizes and extensions, trailers."""
FRAMING_PER_BODY_BYTE = 8
"""The framing bytes that each body byte allows. A chunk of one byte has five."""
HEAD_END = b"\r\n\r\n"
PARSE_SLICE_BYTES = 2048
"""The maximum number of bytes parsed at once. The slice in which a body ends may also hold requests, but only a few."""
BODY_SLICE_BYTES = 64 * 1024
"""The same for a body of announced length, in which no other request can begin."""
PARSE_STEP_S = 0.002
"""How long one connection's bytes are parsed before other tasks run."""
HEADERS_MAX = 256
"""Twice as many as a socket's opening may have, because other requests pass more proxies."""
WRITE_BUFFER_HIGH_BYTES = 32 * 1024
SEND_BUFFER_BYTES = 64 * 1024
EXTENSION = "turnwire.http"


Charge = Callable[[Scope | None, float], float]
"""Charges the seconds for which a client's bytes were parsed. Returns for how many seconds to stop reading from it.

The first argument is the scope of the connection's newest request, if there is one.
"""


def is_not_uvicorns_warning(record: logging.LogRecord) -> bool:
    """Return False for uvicorn's line about a malformed request, which has no request id. The gateway logs its own."""
    return record.msg != UVICORN_WARNING


logging.getLogger("uvicorn.error").addFilter(is_not_uvicorns_warning)


def charge_nobody(_scope: Scope | None, _took_s: float) -> float:
    """Charge nothing, and return 0. See `Charge`."""
    return 0.0


class HeldFlow(FlowControl):
    """The flow control of uvicorn. It doesn't resume reading while `is_held` is set."""

    is_held = False

    def resume_reading(self) -> None:
        """Resume reading, unless it is held."""
        if not self.is_held:
            super().resume_reading()


class BoundedHttp(HttpToolsProtocol):
    """HTTP/1.1 with deadlines, one request at a time.

    The scope of a request holds its connection's `BoundedHttp` as the extension `EXTENSION`.
    """

    settings: Settings
    charge: Charge
    flow: HeldFlow
    _parse_timer: asyncio.TimerHandle | None = None
    _request_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _framing_bytes = 0
    _has_too_many_headers = False
    _unparsed = memoryview(b"")
    _in_body = False
    _upgraded = False
    _body_bytes_left = 0
    """How much of a body of announced length hasn't been parsed yet."""

    def data_received(self, data: bytes) -> None:
        """Parse `data` up to the end of a request. The rest waits for the response, and nothing is read meanwhile."""
        self._unparsed = memoryview(bytes(self._unparsed) + data if self._unparsed else data)
        self._parse()

    def _parse(self) -> None:
        """Parse what may be parsed now. Keep the rest, and pause reading, for as long as the client has to wait."""
        if self._parse_timer is not None:
            return
        began_s = perf_counter()
        took_s = 0.0
        while self._unparsed and took_s < PARSE_STEP_S and not self._is_answering and not self.transport.is_closing():
            size = max(PARSE_SLICE_BYTES, min(self._body_bytes_left, BODY_SLICE_BYTES))
            if not self._in_body:
                size = PARSE_SLICE_BYTES
                head, end, _ = bytes(self._unparsed[:size]).partition(HEAD_END)
                size = len(head) + len(end)
            piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            self._parse_slice(piece)
            took_s = perf_counter() - began_s
        if self._upgraded or self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        scope = None if cycle is None else cast("Scope", cycle.scope)
        delay_s = self.charge(scope, took_s) if took_s else 0.0
        if not self._in_body and cycle is not None:
            delay_s = 0.0  # the next request may be another user's, if a proxy has several users on a connection
        if delay_s or (self._unparsed and not self._is_answering):
            self._parse_timer = self.loop.call_later(delay_s, self._continue)
        if self._unparsed or self._parse_timer is not None:
            self.flow.is_held = True
            self.flow.pause_reading()
        elif self.flow.is_held:
            self.flow.is_held = False
            self.flow.resume_reading()

    def _continue(self) -> None:
        self._parse_timer = None
        self._parse()

    @property
    def _is_answering(self) -> bool:
        """Whether a request that was read waits for its response to begin or to end."""
        cycle: RequestResponseCycle | None = self.cycle
        return bool(self.pipeline) or (cycle is not None and not cycle.more_body and not cycle.response_complete)

    def _parse_slice(self, data: memoryview) -> None:
        """Parse `data`. Refuse the request, or abort the connection, if there are too many framing bytes."""
        self._framing_bytes += len(data)
        super().data_received(data)  # type: ignore[arg-type]
        if self._framing_bytes > FRAMING_BYTES_MAX and not self.transport.is_closing():
            cycle: RequestResponseCycle | None = self.cycle
            if cycle is None or cycle.response_complete:
                self.send_400_response("The headers of the request are too large. Send fewer or shorter ones.")
            else:
                self.transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header to the request. Raise `HttpParserError` if there are too many."""
        if len(self.headers) == HEADERS_MAX:
            self._has_too_many_headers = True
            raise httptools.HttpParserError("too many headers")
        super().on_header(name, value)

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that can't be parsed, and close the connection. `msg` says why."""
        if self._has_too_many_headers:
            msg = f"The request has too many headers. Send at most {HEADERS_MAX}."
        request_id = request_id_in(getattr(self, "headers", ()))
        log.warning("malformed request refused", request_id=request_id, reason=msg)
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(msg)}\r\nx-request-id: {request_id}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write((head + msg).encode("ascii"))
        self.transport.close()

    def on_body(self, body: bytes) -> None:
        """Subtract a piece of the body from the count of framing bytes, and allow more framing bytes for this piece.

        The reader of the body limits its size.
        """
        self._body_bytes_left -= len(body)
        self._framing_bytes -= len(body) * (1 + FRAMING_PER_BODY_BYTE)
        super().on_body(body)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the head."""
        super().connection_made(transport)
        self.flow = HeldFlow(transport)
        self._closed = asyncio.Event()
        self._start_request_timer(self.settings.handshake_timeout_s)

    def on_message_begin(self) -> None:
        """Set the scope's extension, and start the deadline of the head on a kept-alive connection too."""
        super().on_message_begin()
        self.scope["extensions"] = cast("Any", {EXTENSION: self})
        if self._request_timer is None:
            self._start_request_timer(self.settings.handshake_timeout_s)

    def on_headers_complete(self) -> None:
        """Stop the deadline of the head, and start that of the body unless the connection becomes a WebSocket."""
        self._in_body = True
        length = next((value for name, value in self.headers if name == b"content-length"), b"")
        self._body_bytes_left = int(length) if length.isdigit() else 0
        self._stop_request_timer()
        if not self.parser.should_upgrade():
            self._start_request_timer(self.settings.body_timeout_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the deadline of the request and reset the count of framing bytes."""
        self._in_body = False
        self._stop_request_timer()
        self._framing_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Serve the next request: one that was parsed already, or else one that waits to be parsed."""
        super().on_response_complete()
        if self._unparsed:
            self.loop.call_soon(self._parse)

    def handle_websocket_upgrade(self) -> None:
        """Drop what the client sent before the opening was answered. From now on, `BoundedWebSocket` reads the data."""
        self._unparsed = memoryview(b"")
        super().handle_websocket_upgrade()
        self._upgraded = True

    def pause_writing(self) -> None:
        """Start the deadline of the write: the client reads more slowly than the response is sent."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.settings.write_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the deadline of the write."""
        super().resume_writing()
        self._stop_write_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers, and wake the callers of `wait`."""
        if self._parse_timer is not None:
            self._parse_timer.cancel()
        self._stop_request_timer()
        self._stop_write_timer()
        self._closed.set()
        super().connection_lost(exc)

    async def wait(self, delay_s: float) -> bool:
        """Wait for `delay_s`, or until the connection is closed. Return whether it is open."""
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._closed.wait()
        return not self._closed.is_set()

    def _start_request_timer(self, timeout_s: float) -> None:
        self._request_timer = self.loop.call_later(timeout_s, self._end_request, timeout_s)

    def _end_request(self, timeout_s: float) -> None:
        """Abort the connection at its deadline, unless the gateway itself delays the request.

        Start the deadline again if bytes of a request that isn't answered yet wait here to be parsed.
        """
        cycle: RequestResponseCycle | None = self.cycle
        if self._unparsed and not (cycle is not None and cycle.response_complete):
            self._start_request_timer(timeout_s)
        else:
            self.transport.abort()

    def _stop_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def protocol_of(scope: Scope) -> BoundedHttp:
    """Return the protocol of this request's connection."""
    protocol = scope["extensions"][EXTENSION]
    assert isinstance(protocol, BoundedHttp)
    return protocol


def transport_of(scope: Scope) -> asyncio.Transport:
    """Return the transport of this request's connection."""
    return protocol_of(scope).transport


def shrink_write_buffers(transport: asyncio.Transport) -> None:
    """Reduce the write buffers. What a client doesn't read waits in its outbox, where it is counted."""
    if transport.is_closing():
        return  # the client is gone
    transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH_BYTES)
    raw = cast("socket.socket | None", transport.get_extra_info("socket"))
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
