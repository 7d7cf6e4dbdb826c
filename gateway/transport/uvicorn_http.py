"""Bounds on uvicorn's HTTP: deadlines for the head, the body and writes, and small kernel buffers for streams.

Under uvicorn alone, a client that sends half a request, or doesn't read its response, keeps its socket forever, and a
header without an end is buffered in full.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.settings import Settings

FRAMING_BYTES_MAX = 64 * 1024
"""The limit for all bytes that aren't body: head, chunk sizes and extensions, trailers."""
FRAMING_PER_BODY_BYTE = 8
"""The framing bytes that each body byte allows. A chunk of one byte takes six."""
WRITE_BUFFER_HIGH_BYTES = 32 * 1024
SEND_BUFFER_BYTES = 64 * 1024
EXTENSION = "turnwire.http"


class BoundedHttp(HttpToolsProtocol):
    """HTTP/1.1 with deadlines. The scope of a request holds the protocol as the extension `EXTENSION`."""

    settings: Settings
    _request_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _framing_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse `data`. Refuse the request, or abort, if the parser would buffer too much of a head."""
        self._framing_bytes += len(data)
        super().data_received(data)
        if self._framing_bytes > FRAMING_BYTES_MAX and not self.transport.is_closing():
            cycle: RequestResponseCycle | None = self.cycle
            if cycle is None or cycle.response_complete:
                self.send_400_response("The headers of the request are too large. Send fewer or shorter ones.")
            else:
                self.transport.abort()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body out of the count of framing bytes. The reader of the body bounds its size."""
        self._framing_bytes -= len(body) * (1 + FRAMING_PER_BODY_BYTE)
        super().on_body(body)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the head."""
        super().connection_made(transport)
        self._start_request_timer(self.settings.handshake_timeout_s)

    def on_message_begin(self) -> None:
        """Set the scope's extension, and start the deadline of the head on a kept-alive connection too."""
        super().on_message_begin()
        self.scope["extensions"] = cast("Any", {EXTENSION: self})
        if self._request_timer is None:
            self._start_request_timer(self.settings.handshake_timeout_s)

    def on_headers_complete(self) -> None:
        """Stop the deadline of the head and start that of the body."""
        self._stop_request_timer()
        if not self.parser.should_upgrade():
            self._start_request_timer(self.settings.body_timeout_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the deadline of the request and reset the count of framing bytes."""
        self._stop_request_timer()
        self._framing_bytes = 0
        super().on_message_complete()

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
        """Stop all deadlines."""
        self._stop_request_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def _start_request_timer(self, timeout_s: float) -> None:
        self._request_timer = self.loop.call_later(timeout_s, self.transport.abort)

    def _stop_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def transport_of(scope: Scope) -> asyncio.Transport:
    """Return the transport of this request's connection."""
    protocol = scope["extensions"][EXTENSION]
    assert isinstance(protocol, BoundedHttp)
    return protocol.transport


def shrink_write_buffers(transport: asyncio.Transport) -> None:
    """Reduce the write buffers. What a client doesn't read waits in its outbox, where it is counted."""
    transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH_BYTES)
    raw = cast("socket.socket | None", transport.get_extra_info("socket"))
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
