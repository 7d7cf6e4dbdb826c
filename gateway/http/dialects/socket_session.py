"""The session of a dialect's WebSocket. The protocol on it is that of the dialect."""

from __future__ import annotations

from typing import ClassVar

from gateway.http.session import HttpSession, nothing
from gateway.identity.principal import Principal
from gateway.protocol.codec import EVENTS
from gateway.requests.clients import Transport
from gateway.requests.services import Services
from gateway.requests.session import Session
from gateway.streams.outbox import Outbox
from gateway.transport.uvicorn_websocket import BoundedWebSocket


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
        """Close without waiting for the client. Return False if that is impossible, or if it is closing already."""
        if self.socket is None or self.aborted.is_set():
            return False
        self.close_permanently("The client didn't answer a ping.")
        self.socket.keepalive_timeout()
        return True
