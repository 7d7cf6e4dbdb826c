"""The drain of an instance: before the server's own shutdown, or when an operator asks for it.

No new turns start, running turns end or are handed over, and the clients are disconnected.
"""

from __future__ import annotations

import random

import structlog

from gateway.requests.services import Services

log = structlog.stdlib.get_logger("turnwire.gateway")

CLOSE_TIMEOUT_S = 3.0
RECONNECT_AFTER_MS = 1000


async def drain(services: Services) -> None:
    """Drain this instance.

    With a shared store, clients are closed first and find their turns on other instances. Otherwise they stay
    connected until the turns have ended or `drain_s` is over.
    """
    settings, runner, clients = services.settings, services.runner, services.clients
    log.info("draining", turns=len(services.registry.live()), drain_s=settings.drain_s)
    runner.is_draining = True
    if services.store.shared:
        clients.announce_leaving(0, lambda: int(RECONNECT_AFTER_MS * random.random()))
        await clients.close_all(CLOSE_TIMEOUT_S)
        await runner.drain(settings.drain_s)
    else:
        clients.announce_leaving(int(settings.drain_s * 1000), lambda: RECONNECT_AFTER_MS)
        await runner.drain(settings.drain_s)
        await clients.close_all(CLOSE_TIMEOUT_S)
    log.info("drained")
