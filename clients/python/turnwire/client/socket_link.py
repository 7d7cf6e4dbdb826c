"""A WebSocket that is opened again after a loss, until it is closed or refused for good."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import Any, Protocol

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed as SocketClosed

from turnwire.client import close_codes, lifetime
from turnwire.client.backoff import Backoff
from turnwire.client.codecs import CODECS, Frame
from turnwire.client.credentials import is_renewable
from turnwire.client.errors import (
    ConnectFailed,
    ConnectionClosed,
    CredentialFailed,
    ProtocolMismatch,
    TurnwireError,
    Unauthenticated,
)
from turnwire.client.events import AuthExpiring, GoingAway, Ready
from turnwire.client.opening import open_socket
from turnwire.client.options import ConnectionState, Options
from turnwire.client.tasks import Tasks

TICK_S = 1.0
HEARTBEATS_MAX = 2.5
"""The longest silence, in heartbeats. TCP alone may need many minutes to notice that the other side is gone."""
ANSWER_S = 3.0
"""How soon a gateway has to answer after this machine was asleep."""
ASLEEP_S = 5.0
BLOCKED_ATTEMPTS = 3
"""After so many failures in a row that a proxy may have caused, the connection may go on without sockets."""
FINAL_CODES = frozenset({"forbidden", "unauthenticated"})


class FrameTooLarge(TurnwireError):
    """The gateway would close the socket because of this frame."""

    default_code = "too_large"


class Listener(Protocol):
    """The connection that uses the socket."""

    def on_frame(self, frame: Frame) -> None:
        """A frame has arrived."""

    def on_live(self, ready: Ready) -> None:
        """A socket is open. What waits can be sent."""

    def on_interrupted(self) -> None:
        """The socket is lost. Another one will be opened."""

    def on_closed(self, error: TurnwireError) -> None:
        """No other socket will be opened."""

    def on_state(self, state: ConnectionState) -> None:
        """The state has changed."""

    def on_expiring(self, expires_at: str) -> None:
        """The credential expires soon."""

    def on_wake(self) -> None:
        """The machine was asleep. Send a request, so that an answer is due."""

    async def on_blocked(self) -> bool:
        """No socket gets through any more. Return whether the connection goes on without sockets."""


class SocketLink:
    """One socket at a time. `number` counts them, so that work for an earlier one can be recognized."""

    def __init__(self, options: Options, tasks: Tasks, listener: Listener) -> None:
        self.ready: Ready | None = None
        self.number = 0
        self.state = ConnectionState("connecting")
        self._options = options
        self._codec = CODECS[options.codec]
        self._tasks = tasks
        self._listener = listener
        self._websocket: ClientConnection | None = None
        self._outgoing: deque[bytes] = deque()
        self._must_send = asyncio.Event()
        self._must_open = asyncio.Event()
        self._backoff = Backoff()
        self._credential_refused = False
        self._due = 0.0
        self._ticked = (0.0, 0.0)
        self._timer: asyncio.TimerHandle | None = None
        self._lost_because = ""

    @property
    def live(self) -> bool:
        """Whether frames can be sent now."""
        return self.state.state == "live"

    async def open(self) -> None:
        """Open the first socket. While the gateway asks to wait, try again within `open_timeout`. Raise `ConnectFailed`."""
        deadline = time.monotonic() + self._options.open_timeout
        while True:
            try:
                opened = await open_socket(self._options, self._codec)
                break
            except ConnectFailed as error:
                wait_s = (error.retry_after_ms or 250) / 1000
                asks_to_wait = error.code in ("shutting_down", "store_unavailable", "rate_limited")
                if not asks_to_wait or time.monotonic() + wait_s > deadline:
                    raise
            await asyncio.sleep(wait_s)
        self._use(*opened)
        self._tasks.start(self._run())
        self._tasks.start(self._write())

    def send(self, frame: dict[str, Any]) -> bool:
        """Send a frame. Return False, and send nothing, if no socket is open. Raise `FrameTooLarge`, `TypeError`."""
        if not self.live or self.ready is None:
            return False
        data = self._codec.encode(frame)
        if len(data) > self.ready.limits.frame_bytes:
            raise FrameTooLarge(
                f"The request is too large for one frame of {self.ready.limits.frame_bytes} bytes. Shorten it."
            )
        self._outgoing.append(data)
        self._must_send.set()
        return True

    def retry_now(self) -> None:
        """Open a socket now instead of waiting."""
        self._must_open.set()

    def drop(self, because: str) -> None:
        """Drop the socket without a closing handshake, which a dead peer never answers. Another one is opened."""
        self._lost_because = because
        if self._websocket is not None:
            self._websocket.transport.abort()

    async def close(self) -> None:
        """Close the socket for good, with a closing handshake that takes at most a second."""
        self._stop(ConnectionClosed("The connection was closed by this program. Connect again to go on."))
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            try:
                with contextlib.suppress(Exception):
                    await websocket.close()
            finally:
                websocket.transport.abort()

    def abandon(self) -> None:
        """Give up the socket without the event loop, which is closed or belongs to another process."""
        self.state = ConnectionState("closed", "Its event loop is gone")
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            lifetime.forget(getattr(websocket, "transport", None))

    async def _run(self) -> None:
        """Read until the connection is closed, and open again what is lost."""
        try:
            while self.state.state != "closed":
                code, detail = await self._read()
                if not await self._reopen(code, detail):
                    return
        finally:
            if self._websocket is not None:
                lifetime.abort(self._websocket.transport, self._tasks.process)
            if self.state.state != "closed":  # the event loop ends, or this was cancelled from outside
                self._stop(ConnectionClosed("The event loop of the connection has ended. Connect again."))

    async def _read(self) -> tuple[int | None, str]:
        """Hand on frames until the socket is lost. Return the close code and the reason."""
        websocket = self._websocket
        if websocket is None:
            return None, self._lost_because
        decode, loop = self._codec.decode, self._tasks.loop
        try:
            while True:
                data = await websocket.recv(decode=False)
                self._due = loop.time() + self._silence_s
                self._receive(decode(data))
        except SocketClosed as error:
            received = error.rcvd
            return (received.code, received.reason) if received else (None, self._lost_because)
        except msgspec.DecodeError:
            websocket.transport.abort()
            return None, "The gateway sent a frame that can't be decoded"

    def _receive(self, frame: Frame) -> None:
        if isinstance(frame, GoingAway):
            wait_ms = frame.reconnect_after_ms
            self._backoff.request(None if wait_ms is None else max(0.0, wait_ms / 1000))
        elif isinstance(frame, AuthExpiring):
            self._listener.on_expiring(frame.expires_at)
        self._listener.on_frame(frame)

    async def _write(self) -> None:
        """Send what `send` has queued."""
        while True:
            await self._must_send.wait()
            self._must_send.clear()
            while self._outgoing and self._websocket is not None:
                data = self._outgoing.popleft()
                with contextlib.suppress(SocketClosed):  # the reader notices it too
                    await self._websocket.send(data, text=self._codec.is_text)

    async def _reopen(self, code: int | None, detail: str) -> bool:
        """Open another socket after a loss. Return False if the connection is closed for good."""
        self._lose()
        if self.state.state == "closed":
            return False
        failure = self._final(code, detail)
        reason = close_codes.reason_of(code, detail)
        blocked = 0
        while failure is None:
            delay_s = self._backoff.delay_s(code)
            self._set_state(ConnectionState("waiting", reason, delay_s))
            self._must_open.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._must_open.wait()
            self._backoff.on_connecting()
            self._set_state(ConnectionState("connecting", reason))
            try:
                self._use(*await open_socket(self._options, self._codec))
                return True
            except ConnectFailed as error:
                failure = self._after_failure(error)
                blocked = blocked + 1 if error.perhaps_blocked else 0
                if failure is None and blocked >= BLOCKED_ATTEMPTS and await self._listener.on_blocked():
                    self.state = ConnectionState("closed", "HTTP is used instead")
                    return False
                code, reason = None, error.message.rstrip(".")
                if error.retry_after_ms is not None:
                    self._backoff.request(error.retry_after_ms / 1000)
        self._stop(failure)
        return False

    def _use(self, websocket: ClientConnection, ready: Ready) -> None:
        now = self._tasks.loop.time()
        self._websocket, self.ready = websocket, ready
        self._outgoing.clear()
        self._credential_refused = False
        self._lost_because = ""
        self._backoff.on_ready(now)
        self._due = now + self._silence_s
        self._ticked = (now, time.time())
        self._tick_later()
        self.number += 1
        self._set_state(ConnectionState("live"))
        self._listener.on_live(ready)

    def _lose(self) -> None:
        self._stop_timer()
        self._websocket = None
        self._outgoing.clear()
        self._backoff.on_lost(self._tasks.loop.time())
        if self.state.state != "closed":
            self.state = ConnectionState("waiting")
            self._listener.on_interrupted()

    def _final(self, code: int | None, detail: str) -> TurnwireError | None:
        """Return the error if a close code forbids to open another socket."""
        if not close_codes.is_final(code):
            return None
        message = f"{close_codes.reason_of(code, detail)}."
        if code != close_codes.UNAUTHENTICATED:
            return ConnectionClosed(message)
        return self._refused(Unauthenticated(message))

    def _after_failure(self, error: ConnectFailed) -> TurnwireError | None:
        """Return the error if a failed attempt forbids another one."""
        if isinstance(error, Unauthenticated):
            return self._refused(error)
        if isinstance(error, CredentialFailed) and not error.retryable:
            return error
        self._backoff.on_lost(self._tasks.loop.time())
        return error if isinstance(error, ProtocolMismatch) or error.code in FINAL_CODES else None

    def _refused(self, error: Unauthenticated) -> TurnwireError | None:
        """A refused credential gets one more attempt with a fresh one."""
        renewable = is_renewable(self._options.token) or is_renewable(self._options.ticket)
        if renewable and not self._credential_refused:
            self._credential_refused = True
            return None
        return error

    def _stop(self, error: TurnwireError) -> None:
        self._stop_timer()
        if self.state.state == "closed":
            return
        self._set_state(ConnectionState("closed", error.message.rstrip(".")))
        self._listener.on_closed(error)

    def _set_state(self, state: ConnectionState) -> None:
        self.state = state
        self._listener.on_state(state)

    @property
    def _silence_s(self) -> float:
        return (self.ready.heartbeat_s if self.ready else 15.0) * HEARTBEATS_MAX

    def _tick_later(self) -> None:
        self._stop_timer()
        self._timer = self._tasks.loop.call_later(min(TICK_S, self._silence_s / 4), self._tick)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._tasks.reachable:
            self._timer.cancel()
        self._timer = None

    def _tick(self) -> None:
        """Drop a socket that is silent for too long, and ask whether it is alive after the machine was asleep."""
        now, clock = self._tasks.loop.time(), time.time()
        slept_s = (clock - self._ticked[1]) - (now - self._ticked[0])
        late_s = now - self._ticked[0] - TICK_S
        self._ticked = (now, clock)
        if now > self._due and late_s < ASLEEP_S:
            self.drop("The gateway didn't answer any more")
        elif slept_s > ASLEEP_S or late_s > ASLEEP_S:
            self._due = now + ANSWER_S
            self._listener.on_wake()
        self._tick_later()
