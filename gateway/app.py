"""The one place that wires: settings in, a Starlette application out, and what its lifespan owns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from gateway.connection import Connections
from gateway.http import PageGuard, routes
from gateway.hub import Hub
from gateway.ids import new_id
from gateway.runner import Runner
from gateway.services import Services
from gateway.settings import Settings
from providers.catalog import Catalog, Providers
from providers.route import Timeouts
from store.base import Store
from store.connect import connect

CLOSE_TIMEOUT_S = 3.0
RECONNECT_AFTER_MS = 1000


class Gateway:
    """One process's gateway: an ASGI application, and the drain that goes before the server's own shutdown."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self.settings = settings
        self.catalog = Catalog(environment)
        self.store: Store = connect(settings.store)
        self._store_open = False
        self._services: Services | None = None
        self._connections = Connections(lambda: self.services)
        starlette = Starlette(
            routes=[WebSocketRoute("/ws", self._connections), *routes(settings, lambda: self.services)],
            lifespan=self._lifespan,
        )
        self.app = PageGuard(starlette, settings)

    @property
    def services(self) -> Services:
        """What the lifespan has made."""
        assert self._services is not None, "the lifespan has not begun"
        return self._services

    async def open_store(self) -> None:
        """Open the store, once; a server does it before anything else, to say plainly what is wrong."""
        if not self._store_open:
            await self.store.open()
            self._store_open = True

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        settings = self.settings
        providers = Providers(
            self.catalog,
            Timeouts(
                connect_s=settings.connect_timeout_s,
                first_event_s=settings.first_event_timeout_s,
                first_event_reasoning_s=settings.first_event_reasoning_timeout_s,
                between_events_s=settings.event_timeout_s,
            ),
        )
        hub = Hub(settings.turn_log_ttl_s)
        await self.open_store()
        try:
            async with asyncio.TaskGroup() as tasks:
                runner = Runner(
                    hub=hub,
                    store=self.store,
                    catalog=self.catalog,
                    providers=providers,
                    settings=settings,
                    tasks=tasks,
                )
                self._services = Services(new_id("in"), settings, self.store, self.catalog, hub, runner)
                beat = tasks.create_task(self._connections.beat())
                await runner.reap()
                yield
                await runner.drain(0)
                beat.cancel()
        finally:
            await providers.aclose()
            await self.store.close()

    async def drain(self) -> None:
        """Leave: no new turns, running ones end within `drain_s`, then the sockets close."""
        connections, deadline_s = self._connections, self.settings.drain_s
        connections.announce_leaving(int(deadline_s * 1000), RECONNECT_AFTER_MS)
        await self.services.runner.drain(deadline_s)
        await connections.close_all(CLOSE_TIMEOUT_S)
