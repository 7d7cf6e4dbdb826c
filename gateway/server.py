"""uvicorn's settings, our protocol classes in it, and its shutdown in our order: drain first."""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Callable

import uvicorn
from uvicorn.server import Server as UvicornServer

from gateway.app import Gateway
from gateway.settings import Settings
from gateway.transport.uvicorn_websocket import bounded

GRACEFUL_SHUTDOWN_S = 5
BACKLOG = 2048
GC_THRESHOLDS = (20_000, 5, 5)
"""Collections find little and make tokens wait, so they are rare; not so rare that what they find piles up."""
SWITCH_S = 0.001
"""So long at most the loop waits for a thread that works in Python: the embedded store's, or a large body's."""


class Server(UvicornServer):
    """uvicorn's server, with the drain before it closes sockets, and a word when it is ready."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the store, listen, then say so. Raises `StoreError`."""
        await self._gateway.open_store()
        await super().startup(sockets)
        if self.started:
            _collect_rarely()
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain while everything still works, then close. A signal that came before `main_loop` comes here, too."""
        await self._gateway.drain()
        await super().shutdown(sockets)
        # uvicorn would raise the signal again after a clean end, and the exit code would say "killed".
        self._captured_signals.clear()


def _collect_rarely() -> None:
    """What was imported lives as long as the process: no collection looks at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_S)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def ready_line(gateway: Gateway, port: int) -> str:
    """Where to open the page, which providers have keys, and who may come in."""
    settings = gateway.settings.model_copy(update={"port": port})
    catalog = gateway.catalog
    keyed = sorted(
        {
            name.partition(":")[0]
            for name, row, needs in catalog.providers()
            if row.keys and not needs and (catalog.endpoint(name).api_keys or not row.key_optional)
        }
    )
    keys = f"keys for {', '.join(keyed)}" if keyed else "no provider keys, the demo model needs none"
    access = f"auth by {settings.auth}"
    if settings.auth == "none":
        access = "auth is off (loopback only)" if settings.loopback_only else "AUTH IS OFF AND THE NETWORK MAY COME IN"
    return f"Turnwire is ready: open {settings.page_url} - {keys} - {access}"


def make_server(gateway: Gateway, settings: Settings, on_ready: Callable[[], None]) -> Server:
    """The server of this process, not yet running."""
    config = uvicorn.Config(
        gateway.app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        ws_max_size=settings.frame_bytes,
        ws_ping_interval=settings.ping_interval_s,
        ws_ping_timeout=settings.ping_timeout_s,
        ws_per_message_deflate=False,
        forwarded_allow_ips=",".join(settings.trusted_proxies),
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
        **bounded(settings),
    )
    return Server(config, gateway, on_ready)
