"""A real gateway server in the test's own event loop, on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from gateway.app import Gateway
from gateway.server import BACKLOG, Server, make_server
from gateway.settings import Settings
from gateway.supervisor import listen
from tests.in_process import make_settings


@dataclass(frozen=True)
class InLoopServer:
    """A running server."""

    gateway: Gateway
    server: Server
    port: int

    @property
    def url(self) -> str:
        """The URL of its HTTP API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """The URL of its WebSocket endpoint."""
        return f"ws://127.0.0.1:{self.port}/ws"


@asynccontextmanager
async def serving(environment: Mapping[str, str] | None = None, /, **fields: Any) -> AsyncIterator[InLoopServer]:
    """Run a server with these settings. On exit, drain and stop it; running turns get no time unless `drain_s` is set.

    `environment` has the providers' variables. Raises `TimeoutError` if the block takes more than 30 s.
    """
    settings: Settings = make_settings(**{"drain_s": 0, "close_timeout_s": 0.5, **fields})
    gateway = Gateway(settings, environment or {})
    listening = listen("127.0.0.1", 0, 1, BACKLOG)[0]
    ready = asyncio.Event()
    server = make_server(gateway, settings, ready.set)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        served = tasks.create_task(server.serve(sockets=[listening]))
        try:
            await ready.wait()
            yield InLoopServer(gateway, server, listening.getsockname()[1])
        finally:
            server.should_exit = True
            await asyncio.wait([served])
