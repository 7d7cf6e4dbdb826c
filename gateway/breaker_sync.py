"""Share open circuits between instances, as ephemeral values in the store.

If a provider fails, every instance should stop asking it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
import structlog

from providers.retry.breaker import Breakers, Opening
from store.api import Store
from store.errors import StoreError

log = structlog.stdlib.get_logger("turnwire.breaker")

REFRESH_S = 1.0

_decode = msgspec.msgpack.Decoder(Opening).decode


class BreakerSync:
    """The synchronization of `breakers` with the ephemeral values in the store. A turn never waits for it."""

    def __init__(self, store: Store, breakers: Breakers) -> None:
        self._store = store
        self._breakers = breakers
        self._changed = asyncio.Event()
        breakers.on_change = self._changed.set

    async def run(self) -> None:
        """Publish each circuit as soon as it opens here, and read those of other instances every second.

        Run until cancelled. Return immediately if the store isn't shared.
        """
        if not self._store.shared:
            return
        while True:
            try:
                await self._publish()
                await self._refresh()
            except StoreError as error:
                log.info("circuit breakers can't be synchronized", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await self._changed.wait()
            self._changed.clear()

    async def _publish(self) -> None:
        for name, opening in list(self._breakers.unshared.items()):
            await self._store.put_ephemeral(_key(name), msgspec.msgpack.encode(opening), opening.open_ms)
            if self._breakers.unshared.get(name) is opening:
                del self._breakers.unshared[name]

    async def _refresh(self) -> None:
        names = self._breakers.names()
        if names:
            values = await self._store.get_ephemeral([_key(name) for name in names])
            openings = [None if value is None else _decode(value) for value in values]
            self._breakers.apply_shared(zip(names, openings, strict=True))


def _key(name: str) -> str:
    return f"circuit:{name}"
