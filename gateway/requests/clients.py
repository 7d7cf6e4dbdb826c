"""What a process knows of every client that is here, on a socket or over HTTP."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Literal, Protocol, get_args

from gateway.protocol.errors import CloseCode
from gateway.streams.outbox import Outbox

Transport = Literal["websocket", "http"]
TRANSPORTS: tuple[Transport, ...] = get_args(Transport)


class Open(Protocol):
    """A client that is here: a connection, or a stream over HTTP."""

    transport: ClassVar[Transport]
    id: str
    user: str
    opened_ms: int
    outbox: Outbox
    finished: asyncio.Event

    def beat(self, now: float, interval_s: float) -> None: ...

    def close_when_drained(self, code: CloseCode, reason: str) -> None: ...

    def dismiss(self, reason: str) -> None: ...
