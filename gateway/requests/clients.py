"""The clients of this process: open sockets, and HTTP requests with a session."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar, Literal, Protocol, get_args

from gateway.light_event import LightEvent
from gateway.protocol.errors import CODES, CloseCode
from gateway.protocol.events import Durability, GoingAway
from gateway.streams.outbox import Outbox
from gateway.telemetry.metrics import Telemetry

Transport = Literal["websocket", "http"]
TRANSPORTS: tuple[Transport, ...] = get_args(Transport)

HEARTBEAT_STEPS = 10
"""The number of times per heartbeat interval that clients are checked."""


class Client(Protocol):
    """A WebSocket connection, or an HTTP request with a session."""

    transport: ClassVar[Transport]
    id: str
    user: str
    opened_ms: int
    outbox: Outbox
    finished: LightEvent

    def send_heartbeat(self, now: float, interval_s: float) -> None:
        """Send a heartbeat if nothing was sent for `interval_s` seconds. `now` is the loop's time in seconds."""

    def close_when_drained(self, code: CloseCode, reason: str) -> None:
        """Close after everything in the outbox is sent."""

    def close_permanently(self, reason: str) -> None:
        """Close at once. The client must not reconnect automatically."""

    @property
    def heard_s(self) -> float:
        """The time of the last data from the client, in seconds on the event loop's clock."""

    async def answers(self, timeout_s: float) -> bool:
        """Ping the client. Return whether anything was received from it within `timeout_s` seconds."""

    def drop(self) -> bool:
        """Close at once, without waiting for the client. Return False if it is closing already."""


class ClientRegistry:
    """The clients that are connected now. `heartbeat_s` is the heartbeat interval in seconds."""

    def __init__(self, telemetry: Telemetry, heartbeat_s: float) -> None:
        self._telemetry = telemetry
        self._heartbeat_s = heartbeat_s
        self._clients: set[Client] = set()
        self._durability = Durability("ok")

    def add(self, client: Client) -> None:
        """Register a client. If the store is unavailable, send the client the "degraded" durability event."""
        if self._durability.state == "degraded":
            client.outbox.put(self._durability)
        self._telemetry.connections_opened.labels(client.transport).inc()
        self._clients.add(client)

    def remove(self, client: Client) -> None:
        """Unregister a client and set its `finished` event."""
        self._clients.discard(client)
        client.finished.set()

    def all(self) -> list[Client]:
        """Return the clients, oldest first."""
        return sorted(self._clients, key=lambda client: client.opened_ms)

    def of(self, user: str) -> list[Client]:
        """Return the clients of `user`."""
        return [client for client in self._clients if client.user == user]

    def counts(self) -> Counter[Transport]:
        """Return the number of clients per transport."""
        return Counter(client.transport for client in self._clients)

    async def run_heartbeats(self) -> None:
        """Send a heartbeat to each client that was sent nothing for the interval. Run until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._heartbeat_s / HEARTBEAT_STEPS)
            now = loop.time()
            for client in tuple(self._clients):
                client.send_heartbeat(now, self._heartbeat_s)

    def announce_leaving(self, deadline_ms: int, reconnect_after_ms: Callable[[], int]) -> None:
        """Send `going_away` to all clients. `reconnect_after_ms` is called once for each client."""
        for client in tuple(self._clients):
            client.outbox.put(GoingAway("shutdown", deadline_ms, reconnect_after_ms()))

    def set_durability(self, durability: Durability) -> None:
        """Send `durability` to all clients, and to those that connect later while it is "degraded"."""
        self._durability = durability
        for client in tuple(self._clients):
            client.outbox.put(durability)

    async def close_all(self, timeout_s: float) -> None:
        """Close all clients with code 4503 after their outboxes are sent. Wait at most `timeout_s` seconds."""
        for client in tuple(self._clients):
            client.close_when_drained(CloseCode.DRAINING, CODES["shutting_down"].message)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._clients:
                    await next(iter(self._clients)).finished.wait()
