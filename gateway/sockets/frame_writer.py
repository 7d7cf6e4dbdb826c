"""Send the frames in the outbox of one connection.

A loop callback writes the frames that the socket accepts at once. A task sends the others and waits for the socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from gateway.sockets.opening import Send
from gateway.streams.outbox import Outbox
from gateway.streams.pump import WRITES_BEFORE_YIELD, notify_sent, pump
from gateway.transport.uvicorn_websocket import BINARY, TEXT, BoundedWebSocket


class FrameWriter:
    """The writer of one connection. `socket` is written to directly, bypassing ASGI; None means only `send` is used."""

    def __init__(self, socket: BoundedWebSocket | None, send: Send) -> None:
        self._socket = socket
        self._send = send
        self._idle: asyncio.Future[None] | None = None
        """The future that the task waits for while the outbox is empty."""
        self._is_write_scheduled = False
        self._is_finishing = False
        self._loop = asyncio.get_running_loop()
        self._write_soon: Callable[[bytes], bool] | None = None
        self._sent_at = self._loop.time()

    @property
    def sent_at(self) -> float:
        """The time of the last send, in seconds on the event loop's clock."""
        return self._sent_at if self._socket is None else max(self._sent_at, self._socket.sent_s)

    @sent_at.setter
    def sent_at(self, now: float) -> None:
        self._sent_at = now

    async def run(self, outbox: Outbox) -> None:
        """Send the frames of `outbox` until `finish` is called. Raises `OSError` if the client is gone."""
        self._outbox = outbox
        self._first_byte = BINARY if outbox.codec.binary else TEXT
        if self._socket is not None:
            self._write_soon = partial(self._socket.write_frame_soon, self._first_byte)
        await pump(outbox, self._send_frame, self._wait)

    async def _send_frame(self, frame: bytes) -> bool:
        if self._outbox.codec.binary:
            await self._send({"type": "websocket.send", "bytes": frame})
        else:
            await self._send({"type": "websocket.send", "text": frame.decode()})
        self._sent_at = self._loop.time()
        return True

    async def _wait(self) -> bool:
        if self._is_finishing:
            return False
        self._idle = self._loop.create_future()
        self._set_idle()
        await self._idle
        return True

    def finish(self) -> None:
        """Let `run` return as soon as the outbox is empty."""
        self._is_finishing = True
        self.wake()

    def wake(self) -> None:
        """Schedule a write in the event loop's next iteration. It includes all frames that are queued until then."""
        if self._idle is None:
            return
        self._outbox.write_soon = None
        if not self._is_write_scheduled:
            self._is_write_scheduled = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        """Write the frames that the socket accepts at once. Wake the task if more may wait, or if it has to finish."""
        self._is_write_scheduled = False
        idle, socket = self._idle, self._socket
        if idle is None or idle.done():
            return
        if socket is not None and not self._is_finishing:
            outbox = self._outbox
            for _ in range(WRITES_BEFORE_YIELD):
                if not socket.is_writable:
                    break
                payload = outbox.next_frame()
                if payload is None:
                    self._set_idle()
                    return
                socket.write_frame(self._first_byte, payload)
                notify_sent(outbox)
        idle.set_result(None)

    def _set_idle(self) -> None:
        if self._write_soon is not None and not self._is_finishing:
            self._outbox.write_soon = self._write_soon
