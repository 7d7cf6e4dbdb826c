"""One WebSocket connection: its opening, reader, writer and close.

The reader waits for the requests that it has started only if too many are in flight. The writer waits for the socket.
A connection owns nothing that must outlive it: when the reader ends, the writer and the requests are cancelled, the
attachments are dropped, and the turns continue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from time import perf_counter
from typing import Any, ClassVar, cast

import structlog
from structlog.contextvars import bind_contextvars, get_contextvars

from gateway.identity.credential_lease import CredentialLease
from gateway.light_event import LightEvent
from gateway.limits.connections import ConnectionPermit
from gateway.protocol.errors import CODES, CloseCode
from gateway.protocol.events import AuthExpiring, Heartbeat, Limits, Ready
from gateway.protocol.ids import new_id, now_ms, rfc3339
from gateway.protocol.requests import PROTOCOL, Result
from gateway.requests.clients import Transport
from gateway.requests.delegated import DelegatedSessions
from gateway.requests.services import Services
from gateway.requests.session import Session, Spawn, auth_result
from gateway.sockets.frame_writer import FrameWriter
from gateway.sockets.opening import AcceptedSocket, Receive, Scope, Send, open_socket, wrong_opcode_reason
from gateway.streams.multiplexed_outbox import MultiplexedOutbox
from gateway.streams.outbox import Outbox
from gateway.telemetry.tracing import adopt_trace_context
from gateway.transport.uvicorn_websocket import BoundedWebSocket, websocket_of

log = structlog.stdlib.get_logger("turnwire.connection")

REQUESTS_MAX = 1024
"""The most requests in flight on one connection, over all users that a service acts for."""
READ_BEFORE_YIELD_BYTES = 8 * 1024
FRAME_OVERHEAD_BYTES = 512
"""The fixed cost of a frame. A small frame takes about as long as this many bytes of a large one."""


class WebSocketEndpoint:
    """The ASGI application at `/ws`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open one WebSocket, and serve it to its close. Our own server serves it after this has returned."""
        services: Services = scope["state"]["services"]
        await receive()
        adopt_trace_context(scope["headers"])
        permit = services.limits.connection_permit()
        accepted: AcceptedSocket | None = None
        try:
            accepted = await open_socket(services, permit, scope, receive, send)
        finally:
            if accepted is None:
                permit.release()
        if accepted is None:
            return
        socket, context = websocket_of(scope), get_contextvars()
        if socket is None:
            await Connection(services, permit, accepted, None, send).serve(receive, context)
        else:
            connection = Connection(services, permit, accepted, socket, cast("Send", socket.send))
            socket.serve_after_opening(connection.serve(cast("Receive", socket.receive), context))


class Connection:
    """An accepted WebSocket of one principal."""

    transport: ClassVar[Transport] = "websocket"

    def __init__(
        self,
        services: Services,
        permit: ConnectionPermit,
        accepted: AcceptedSocket,
        socket: BoundedWebSocket | None,
        send: Send,
    ) -> None:
        self.id = new_id("cn")
        self.user = accepted.principal.user
        self.opened_ms = now_ms()
        self._permit = permit
        self._accepted = accepted
        settings = services.settings
        self._services = services
        self._codec = accepted.codec
        self._send = send
        self._socket = socket
        self._frame_writer = FrameWriter(socket, send)
        self._closing: tuple[CloseCode, str] | None = None
        self._write_task: asyncio.Task[None] | None = None
        self.finished = LightEvent()
        self._requests: set[asyncio.Task[None]] = set()
        self._has_capacity = LightEvent()
        queue = MultiplexedOutbox if "as" in accepted.principal.scopes else Outbox
        self.outbox = queue(
            accepted.codec, settings.outbox_bytes, self._frame_writer.wake, self._on_overflow, self._has_capacity.set
        )
        self.outbox.put(self._ready())

    async def serve(self, receive: Receive, context: dict[str, Any]) -> None:
        """Serve the connection until the client or the gateway closes it, and release its permit.

        `context` has the variables of the log lines about the opening. The task must be this connection's own.
        """
        services = self._services
        bind_contextvars(**context, connection=self.id, user=self.user)
        del context
        services.clients.add(self)
        if services.runner.is_draining:  # draining began while the socket was being opened
            self.close_when_drained(CloseCode.DRAINING, CODES["shutting_down"].message)
        log.info("connection opened", codec=self._codec.name)
        try:
            await self._run(receive)
        finally:
            services.clients.remove(self)
            self._permit.release()
        log.info("connection closed")

    async def _run(self, receive: Receive) -> None:
        async with asyncio.TaskGroup() as tasks:
            requests = self._requests

            def spawn(work: Coroutine[Any, Any, None]) -> None:
                task = tasks.create_task(work)
                requests.add(task)
                task.add_done_callback(self._on_request_done)

            _, principal, auth_id = self._accepted
            credential = self._services.authenticator.admit(principal, self._on_expiring, self._on_access_ended)
            session = self._open_session(credential, spawn)
            if auth_id is not None:
                self.outbox.put(Result(auth_id, auth_result(principal)))
            self._write_task = tasks.create_task(self._write())
            try:
                await self._read(receive, session)
            finally:
                session.close()
                credential.release()
                for task in (self._write_task, *requests):
                    task.cancel()

    def _on_request_done(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        self._has_capacity.set()

    def _open_session(self, credential: CredentialLease, spawn: Spawn) -> Session | DelegatedSessions:
        services, user, outbox = self._services, self.user, self.outbox
        if isinstance(outbox, MultiplexedOutbox):
            return DelegatedSessions(services, user, credential, outbox, spawn, self._on_invalid_frames)
        return Session(services, user, credential, outbox, spawn, self._on_invalid_frames)

    def _ready(self) -> Ready:
        settings = self._services.settings
        return Ready(
            protocol=PROTOCOL,
            connection=self.id,
            instance=self._services.instance,
            user=self.user,
            heartbeat_s=settings.heartbeat_s,
            default_model=self._services.runner.default_model,
            limits=Limits(settings.frame_bytes, settings.input_bytes, settings.turns_per_connection),
        )

    async def _read(self, receive: Receive, session: Session | DelegatedSessions) -> None:
        """Pass each frame to the session, which starts the frame's request. Return when the client disconnects.

        While the connection is closing, frames are dropped.
        """
        key = "bytes" if self._codec.binary else "text"
        limits, principal = self._services.limits, self._accepted.principal
        read_bytes = 0
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get(key)
            if data is None:
                self.close(CloseCode.UNSUPPORTED_DATA, wrong_opcode_reason(self._codec))
                continue
            began = perf_counter()
            if self._closing is None:
                session.receive(data)
            limits.loop_time.charge(principal.user, perf_counter() - began)
            read_bytes += FRAME_OVERHEAD_BYTES + len(data)
            if delay_s := 0 if principal.is_service else limits.loop_time.delay_s(principal.user):
                await asyncio.sleep(delay_s)
            elif read_bytes >= READ_BEFORE_YIELD_BYTES:
                read_bytes = 0
                await asyncio.sleep(0)
            await self._wait_for_capacity()

    async def _wait_for_capacity(self) -> None:
        """Wait while `REQUESTS_MAX` requests are in flight or the outbox is crowded.

        Each user's requests and frames have bounds of their own. The bounds here cover all users of a service's
        connection together.
        """
        while len(self._requests) >= REQUESTS_MAX or self.outbox.is_crowded:
            self._has_capacity.clear()
            await self._has_capacity.wait()

    async def _write(self) -> None:
        """Send queued frames as fast as the socket accepts them, then the close frame."""
        try:
            await self._frame_writer.run(self.outbox)
        except asyncio.CancelledError:
            # `close` cancels a send that may never return. The close frame doesn't wait for the socket.
            if self._closing is None:
                raise
        except OSError:
            self.outbox.close()  # the client is gone: this lets `_wait_for_capacity` return
            return
        if self._closing is not None:
            code, reason = self._closing
            self._services.telemetry.connections_closed.labels(int(code)).inc()
            log.info("connection closing", code=int(code), reason=reason)
            with suppress(OSError):
                await self._send({"type": "websocket.close", "code": int(code), "reason": reason})

    def send_heartbeat(self, now: float, interval_s: float) -> None:
        """Send a heartbeat if nothing was sent for `interval_s` seconds. `now` is the loop's time in seconds."""
        if now - self._frame_writer.sent_at >= interval_s:
            self._frame_writer.sent_at = now
            self.outbox.put(Heartbeat(now_ms()))

    def _on_overflow(self) -> None:
        self._services.telemetry.slow_clients.labels(self.transport).inc()
        self.close(CloseCode.TOO_SLOW, "The client reads too slowly. Reconnect, and attach from your positions.")

    def _on_expiring(self, expires_ms: int) -> None:
        self.outbox.put(AuthExpiring(rfc3339(expires_ms)))

    def _on_access_ended(self, reason: str) -> None:
        self.close(CloseCode.UNAUTHENTICATED, reason)

    def _on_invalid_frames(self) -> None:
        self.close(CloseCode.PROTOCOL_BROKEN, "Too many invalid frames. Check them against the protocol.")

    def close_permanently(self, reason: str) -> None:
        """Close at once with `FORBIDDEN`, so that the client doesn't reconnect automatically."""
        self.close(CloseCode.FORBIDDEN, reason)

    def close(self, code: CloseCode, reason: str) -> None:
        """Close at once and drop all queued frames. Does nothing if the connection is closing already."""
        if self._closing is not None:
            return
        self._closing = (code, reason)
        self.outbox.close()
        if self._write_task is not None:
            self._write_task.cancel()

    @property
    def heard_s(self) -> float:
        """The time of the last data from the client, in seconds on the event loop's clock; 0 under another server."""
        return 0.0 if self._socket is None else self._socket.heard_s

    async def answers(self, timeout_s: float) -> bool:
        """Ping the client. Return whether anything was received from it within `timeout_s` seconds.

        Under a server other than ours, return True without a ping.
        """
        return self._socket is None or await self._socket.answers(timeout_s)

    def drop(self) -> bool:
        """Close with 1011 and drop all queued frames, as after a ping timeout. Return whether this call did so.

        Do nothing if the connection is closing already, or under a server other than ours.
        """
        if self._closing is not None or self._socket is None:
            return False
        self.close(CloseCode.INTERNAL, "The client didn't answer a ping.")
        self._socket.keepalive_timeout()
        return True

    def close_when_drained(self, code: CloseCode, reason: str) -> None:
        """Close after all queued frames are sent. Does nothing if the connection is closing already."""
        if self._closing is None:
            self._closing = (code, reason)
            self._frame_writer.finish()
