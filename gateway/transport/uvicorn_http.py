"""Our bounds on uvicorn's HTTP: a head, a body and a write have deadlines, and a stream keeps little in the kernel.

What uvicorn leaves open: a client that sends half a request, or doesn't read its answer, keeps its socket for ever, and
a header without an end is kept whole.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.settings import Settings

FRAMING_BYTES_MAX = 64 * 1024
"""Head, chunks' sizes and extensions, trailers: all that isn't body."""
FRAMING_PER_BODY_BYTE = 8
"""A chunk of one byte takes six."""
WRITE_BUFFER_HIGH_BYTES = 32 * 1024
SEND_BUFFER_BYTES = 64 * 1024
EXTENSION = "turnwire.http"


class BoundedHttp(HttpToolsProtocol):
    """HTTP/1.1 with deadlines. A request's scope has the protocol as its extension `EXTENSION`."""

    settings: Settings
    _request_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _framing_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse, and bound what the parser keeps of a head."""
        self._framing_bytes += len(data)
        super().data_received(data)
        if self._framing_bytes > FRAMING_BYTES_MAX and not self.transport.is_closing():
            cycle: RequestResponseCycle | None = self.cycle
            if cycle is None or cycle.response_complete:
                self.send_400_response("The request's head is too large.")
            else:
                self.transport.abort()

    def on_body(self, body: bytes) -> None:
        """A piece of the body, which whoever reads it bounds."""
        self._framing_bytes -= len(body) * (1 + FRAMING_PER_BODY_BYTE)
        super().on_body(body)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the head's deadline."""
        super().connection_made(transport)
        self._expect_within(self.settings.handshake_timeout_s)

    def on_message_begin(self) -> None:
        """A head begins; on a connection that was kept alive it has a deadline too."""
        super().on_message_begin()
        self.scope["extensions"] = cast("Any", {EXTENSION: self})
        if self._request_timer is None:
            self._expect_within(self.settings.handshake_timeout_s)

    def on_headers_complete(self) -> None:
        """The head is here; a body may follow."""
        self._stop_request_timer()
        if not self.parser.should_upgrade():
            self._expect_within(self.settings.body_timeout_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is here."""
        self._stop_request_timer()
        self._framing_bytes = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client reads slower than it is answered: it has a while to go on."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.settings.write_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It went on."""
        super().resume_writing()
        self._stop_write_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the deadlines."""
        self._stop_request_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def keep_narrow(self) -> None:
        """What a stream's client doesn't read shall wait in its outbox, where it is counted."""
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH_BYTES)
        raw = cast("socket.socket | None", self.transport.get_extra_info("socket"))
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def _expect_within(self, timeout_s: float) -> None:
        self._request_timer = self.loop.call_later(timeout_s, self.transport.abort)

    def _stop_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def keep_narrow(scope: Scope) -> None:
    """Let this request's connection buffer little."""
    _protocol(scope).keep_narrow()


def abort(scope: Scope) -> None:
    """Cut this request's connection without waiting for its client."""
    _protocol(scope).transport.abort()


def _protocol(scope: Scope) -> BoundedHttp:
    found = scope["extensions"][EXTENSION]
    assert isinstance(found, BoundedHttp)
    return found
