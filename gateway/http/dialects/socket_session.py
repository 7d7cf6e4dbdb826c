"""The opening and the session of a dialect's WebSocket. The protocol on it is that of the dialect."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import ClassVar

from starlette.types import Receive, Scope, Send

from gateway.dialects.base import Dialect
from gateway.http.responses import error_response
from gateway.http.session import HttpSession, nothing
from gateway.identity import origin
from gateway.identity.named_user import act_for_named_user
from gateway.identity.principal import Principal
from gateway.protocol.codec import EVENTS
from gateway.protocol.errors import ApiError
from gateway.requests.clients import Transport
from gateway.requests.services import Services
from gateway.requests.session import Session
from gateway.streams.outbox import Outbox
from gateway.telemetry.dialect import adopt_dialect, current_dialect
from gateway.telemetry.tracing import adopt_trace_context
from gateway.transport.uvicorn_websocket import BoundedWebSocket, websocket_of
from gateway.turns.error_mapping import as_api_error

OPENING_COST_S = 0.002
OPENING_DELAY_MAX_S = 3.0


class SocketSession(HttpSession):
    """The session of a socket whose frames are a dialect's. The transport's pings keep it alive, not heartbeats."""

    transport: ClassVar[Transport] = "websocket"

    def __init__(self, services: Services, principal: Principal, host: str, socket: BoundedWebSocket | None) -> None:
        super().__init__(services, principal, is_streamed=True, host=host, codec=EVENTS)
        self.services = services
        self.socket = socket

    def send_heartbeat(self, now: float, interval_s: float) -> None:
        """Send nothing, whatever the time `now` is."""

    def session_with(self, outbox: Outbox) -> Session:
        """Return a session with the same user and credential, and with an outbox of its own. Close it after use."""
        return Session(self.services, self.user, self._credential, outbox, nothing, nothing, in_bodies=True)

    def stop_slow(self) -> None:
        """Stop because the client reads too slowly."""
        self._on_overflow()

    async def answers(self, timeout_s: float) -> bool:
        """Ping the client. Return whether anything was received from it within `timeout_s` seconds."""
        return self.socket is None or await self.socket.answers(timeout_s)

    def drop(self) -> bool:
        """Close without waiting for the client. Return False if that is impossible, or happens already."""
        if self.socket is None or self.aborted.is_set():
            return False
        self.close_permanently("The client didn't answer a ping.")
        self.socket.keepalive_timeout()
        return True


async def open_socket(
    stack: AsyncExitStack, dialect: Dialect, scope: Scope, receive: Receive, send: Send
) -> SocketSession | None:
    """Accept a socket, and return its session, which `stack` ends. Return None after sending a refusal.

    The credential must come with the opening.
    """
    services: Services = scope["state"]["services"]
    await receive()
    adopt_trace_context(scope["headers"])
    adopt_dialect(dialect.name)
    host = origin.client_host(scope)
    opening = services.limits.loop_time.request(scope["headers"], host)
    opening.add(OPENING_COST_S)
    try:
        # A user that has used more than its share of the loop must not gain more by reconnecting.
        await asyncio.sleep(min(opening.begin(), OPENING_DELAY_MAX_S))
        principal = await _authenticate(services, scope)
        await asyncio.sleep(min(opening.identify(principal), OPENING_DELAY_MAX_S))
        session = SocketSession(services, principal, host, websocket_of(scope))
        await stack.enter_async_context(session)
    except Exception as error:
        refused = as_api_error(error)
        services.telemetry.refusals.labels(refused.code, current_dialect()).inc()
        response = error_response(refused, dialect=dialect)
        head = {"status": response.status_code, "headers": response.raw_headers}
        await send({"type": "websocket.http.response.start", **head})
        await send({"type": "websocket.http.response.body", "body": response.body})
        return None
    finally:
        opening.end()
    offered: list[str] = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
    return session


async def _authenticate(services: Services, scope: Scope) -> Principal:
    headers = scope["headers"]
    origin.check_host(headers, services.settings)
    origin.check_socket_origin(headers, services.settings)
    if services.runner.is_draining:
        raise ApiError("shutting_down", retry_after_ms=1000)
    principal = await services.authenticator.authenticate_socket(headers, scope["query_string"])
    if principal is None:
        raise ApiError("unauthenticated")
    return act_for_named_user(principal, headers)
