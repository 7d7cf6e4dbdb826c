"""The frames of a dialect's open WebSocket: reading, decoding, sending lines, and the close. Their meaning is the dialect's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from starlette.types import Message, Receive, Send

from gateway.http.dialects.socket_session import SocketSession
from gateway.http.request_body import COUNT_ABOVE_BYTES
from gateway.offload import offload
from gateway.protocol.errors import ApiError
from gateway.protocol.value_count import SLICE_BYTES, ValueCount
from gateway.transport.uvicorn_websocket import TEXT

log = structlog.stdlib.get_logger("turnwire.connection")

SERVICE_RESTART, POLICY_VIOLATION, TRY_AGAIN_LATER = 1012, 1008, 1013
CLOSE_CODES: Final = {"shutting_down": SERVICE_RESTART, "rate_limited": TRY_AGAIN_LATER}
"""The codes to close a socket with, by the error. Clients reconnect by themselves after these, and not after 1008."""

T = TypeVar("T")


class SocketConnection:
    """One open socket. `bytes_max` is the size of the longest message that its client may send."""

    def __init__(self, session: SocketSession, send: Send, bytes_max: int) -> None:
        self._session = session
        self._services = session.services
        self._send = send
        self._is_closed = False
        if session.socket is not None:
            session.socket.accept_messages_of(max(bytes_max, session.services.settings.frame_bytes))

    async def read(
        self, receive: Receive, handle: Callable[[str], Awaitable[None]], first: Message | None = None
    ) -> None:
        """Pass the text of each frame to `handle`, until the client disconnects. `first` was received already.

        While the session stops, frames are dropped.
        """
        session, loop_time = self._session, self._services.limits.loop_time
        loop = asyncio.get_running_loop()
        while True:
            message = await receive() if first is None else first
            first = None
            if message["type"] == "websocket.disconnect":
                return
            session.heard_s = loop.time()
            if session.stop_error is not None:
                continue
            data = message.get("text")
            if data is None:
                session.close_permanently("Only text frames are supported. Send JSON as text.")
                continue
            await handle(data)
            if delay_s := loop_time.delay_s(session.user):
                await asyncio.sleep(delay_s)

    async def decode(self, encoded: bytes, decode: Callable[[bytes], T]) -> T:
        """Return a decoded frame. The values of a long one are counted first. Raises `ApiError`."""
        if len(encoded) > COUNT_ABOVE_BYTES:
            values = ValueCount(self._services.settings.request_items)
            for at in range(0, len(encoded), SLICE_BYTES):
                if values.feed(encoded[at : at + SLICE_BYTES]):
                    await asyncio.sleep(0)
        return await offload(len(encoded), decode, encoded)

    async def send_lines(self, lines: bytes) -> None:
        """Send each line as a frame. Raises `OSError` if the client is gone."""
        socket = self._session.socket
        for line in lines.splitlines():
            if socket is not None and socket.is_writable:
                socket.write_frame(TEXT, line)
            else:
                await self._send({"type": "websocket.send", "text": line.decode()})

    async def close(self, last_lines: Callable[[ApiError], bytes] = lambda error: b"") -> None:
        """Close the socket because of the session's `stop_error`, after sending `last_lines` of it. A second call does nothing.

        Raises `OSError` if the client is gone.
        """
        if self._is_closed:
            return
        self._is_closed = True
        error = self._session.stop_error or ApiError("internal")
        await self.send_lines(last_lines(error))
        code = CLOSE_CODES.get(error.code, POLICY_VIOLATION)
        self._services.telemetry.connections_closed.labels(code).inc()
        log.info("connection closing", code=code, reason=error.body.message)
        await self._send({"type": "websocket.close", "code": code, "reason": error.body.message[:100]})
