"""The ASGI application: the routes, and a lifespan that owns the store, the providers and all long-lived tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from gateway.drain import drain
from gateway.http.dialects.addresses import SOCKETS
from gateway.http.middleware import SecurityMiddleware, with_cors
from gateway.http.pacing import Pacing
from gateway.http.path_prefix import PathPrefix
from gateway.http.request_ids import RequestIds
from gateway.http.routes import routes
from gateway.http.unknown_paths import handle_not_found
from gateway.identity.authenticator import Authenticator
from gateway.limits.fair_queue import WAITERS_MAX, queue_archive_calls, queue_calls
from gateway.requests.services import Services
from gateway.runtime import Runtime, create_runtime
from gateway.settings import Settings
from gateway.sockets.endpoint import WebSocketEndpoint
from gateway.telemetry.measured_store import measure_archive_calls, measure_calls
from gateway.telemetry.metrics import Telemetry
from gateway.telemetry.tracing import open_tracing
from providers.catalog.operator_file import open_catalog
from providers.clients import ProviderClients
from store.api import Store
from store.connect import add_archive, connect, connect_archive


class Gateway:
    """The gateway of one process: an ASGI application, and the drain that precedes the server's own shutdown."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self.settings = settings
        self.catalog = open_catalog(environment, settings.models)
        models = [model.id for model in self.catalog.models()]
        self._tracing = open_tracing(settings.otlp_endpoint, models, settings.log_users)
        self.telemetry = Telemetry(models)
        store = connect(
            settings.store_url,
            history_ttl_s=settings.history_ttl_s,
            log_ttl_s=settings.turn_log_ttl_s,
            retention_days=settings.retention_days,
            wait_replicas=settings.redis_wait_replicas,
            wait_ms=settings.redis_wait_ms,
            archived=bool(settings.archive),
        )
        waiters_max = 0 if settings.auth == "none" else WAITERS_MAX
        if settings.archive:
            # Calls of the archive are queued by themselves, so that a slow database delays no call of Redis.
            archive = connect_archive(settings.archive, migrate=settings.archive_migrate)
            measured = measure_archive_calls(archive, self.telemetry)
            store = add_archive(
                queue_calls(store, waiters_max),
                queue_archive_calls(measured, waiters_max),
                sync=settings.archive_sync,
            )
            self.store: Store = measure_calls(store, self.telemetry)
        else:
            self.store = queue_calls(measure_calls(store, self.telemetry), waiters_max)
        self._authenticator = Authenticator(settings, self.store)
        self._store_open = False
        self._runtime: Runtime | None = None
        sockets = [WebSocketRoute(path, endpoint) for path, endpoint in SOCKETS]
        all_routes = [WebSocketRoute("/ws", WebSocketEndpoint()), *sockets, *routes(settings)]
        starlette = Starlette(
            routes=all_routes,
            lifespan=self._lifespan,
            exception_handlers={404: handle_not_found, 405: handle_not_found},
        )
        # Starlette would redirect to whatever host the Host header names, and from a proxy's https to http.
        starlette.router.redirect_slashes = False
        app = SecurityMiddleware(PathPrefix(with_cors(starlette, settings), settings.path_prefix), settings)
        self.app = RequestIds(Pacing(app), all_routes, settings.path_prefix)

    @property
    def services(self) -> Services:
        """The services, which the lifespan creates."""
        assert self._runtime is not None, "the lifespan has not begun"
        return self._runtime.services

    async def open_store(self) -> None:
        """Open the store if it isn't open. Raises `StoreError`.

        A server calls this before anything else, so that it can report a failure plainly.
        """
        if not self._store_open:
            await self.store.open()
            self._store_open = True

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[dict[str, Services]]:
        settings = self.settings
        providers = ProviderClients(self.catalog, settings.timeouts)
        await self.open_store()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._runtime = create_runtime(
                    settings,
                    self.store,
                    self.catalog,
                    providers,
                    tasks,
                    self._authenticator,
                    self.telemetry,
                    self._tracing,
                )
                background_tasks = [tasks.create_task(coroutine) for coroutine in self._runtime.background_tasks()]
                await self._runtime.start()
                yield {"services": self.services}
                await self.services.runner.drain(0)
                for task in background_tasks:
                    task.cancel()
        finally:
            await providers.aclose()
            if self._tracing is not None:
                await asyncio.to_thread(self._tracing.shutdown)
            await self.store.close()

    async def drain(self) -> None:
        """Drain this instance while all of its parts still work."""
        await drain(self.services)
