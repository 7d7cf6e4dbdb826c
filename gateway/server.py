"""The uvicorn server: its settings, our protocol classes, and a shutdown that drains first."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
import uvloop
from uvicorn.server import Server as UvicornServer

from gateway.app import Gateway
from gateway.http.pacing import charge_parsing
from gateway.settings import Settings
from gateway.tls import tls_context
from gateway.transport.uvicorn_websocket import protocol_classes

GRACEFUL_SHUTDOWN_S = 5
BACKLOG = 2048
GC_THRESHOLDS = (5_000, 3, 40)
"""Collections free little and delay tokens. Those of all objects are therefore rare, but not so rare that garbage piles up,
and the others are of few objects: they stop the loop for 1 to 10 ms, where those of 120,000 objects took 45 ms."""
SWITCH_INTERVAL_S = 0.001
"""How long the event loop waits until it asks another thread to release the GIL.

Other threads work on SQLite or on large values, for example. A thread in a long C call releases the GIL only after it.
"""


class Server(UvicornServer):
    """The server of uvicorn, with a drain before it closes sockets, and a callback when it is ready."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the store, listen, then call `on_ready`. Raises `StoreError`."""
        await self._gateway.open_store()
        await super().startup(sockets)
        if self.started:
            _tune_interpreter()
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain while everything still works, then close. A signal that arrives before `main_loop` also leads here."""
        await self._gateway.drain()
        await super().shutdown(sockets)
        # uvicorn would raise the signal again after a clean shutdown, and the exit code would mean "killed".
        self._captured_signals.clear()


class TlsLoop(uvloop.Loop):
    """An event loop whose TLS servers have the timeouts of the settings: uvicorn sets none, so they would be 60 and 30 s."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._timeouts: dict[str, Any] = {
            "ssl_handshake_timeout": settings.handshake_timeout_s,
            "ssl_shutdown_timeout": settings.close_timeout_s,
        }

    async def create_server(self, *args: Any, **options: Any) -> Any:
        """See `asyncio.loop.create_server`."""
        return await super().create_server(*args, **(options | self._timeouts))


class TlsConfig(uvicorn.Config):
    """The settings of a server with TLS, whose `run` uses a `TlsLoop`."""

    def __init__(self, *args: Any, settings: Settings, **options: Any) -> None:
        super().__init__(*args, **options)
        self._settings = settings

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        """Return the function that makes the event loop."""
        return lambda: TlsLoop(self._settings)


def _tune_interpreter() -> None:
    """Make garbage collections rare, and exclude imported objects from them, because these live as long as the process.

    Also set the thread switch interval to `SWITCH_INTERVAL_S`.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def ready_line(gateway: Gateway, port: int) -> str:
    """Return the startup line: the page's URL, the providers that have keys, and how clients authenticate."""
    settings = gateway.settings.model_copy(update={"port": port})
    catalog = gateway.catalog
    configured = sorted(
        {
            name.partition(":")[0]
            for name, row, needs in catalog.providers()
            if row.keys and not needs and (catalog.endpoint(name).api_keys or not row.key_optional)
        }
    )
    keys = f"keys for {', '.join(configured)}" if configured else "no provider keys, the demo model needs none"
    access = f"auth by {settings.auth}"
    if settings.auth == "none":
        access = "auth is off (loopback only)" if settings.loopback_only else "AUTH IS OFF, AND THE NETWORK HAS ACCESS"
    return f"Turnwire is ready: open {settings.page_url} - {keys} - {access}"


def make_server(gateway: Gateway, settings: Settings, on_ready: Callable[[], None]) -> Server:
    """Return the server of this process. It isn't running yet."""
    certfile = settings.certfile or None
    config_class = uvicorn.Config if certfile is None else partial(TlsConfig, settings=settings)
    config = config_class(
        gateway.app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_context_factory=None if certfile is None else lambda *_: tls_context(certfile, settings.keyfile),
        ws_max_size=settings.frame_bytes,
        ws_ping_interval=settings.ping_interval_s,
        ws_ping_timeout=settings.ping_timeout_s,
        ws_per_message_deflate=False,
        forwarded_allow_ips=",".join(settings.trusted_proxies),
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
        # Otherwise the log lines of uvicorn would have the request and the user of an earlier request.
        reset_contextvars=True,
        **protocol_classes(settings, lambda scope, took_s: charge_parsing(gateway.services, scope, took_s)),
    )
    return Server(config, gateway, on_ready)
