"""A provider whose answers come from a function of the test."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import cast

from providers.base import ChatRequest, Delta, DeltaSink, Provider, deliver
from providers.catalog.catalog import Catalog
from providers.clients import ProviderClients
from providers.route import Route


class Scripted:
    """A provider that answers with the batches of `script`. `request_count` counts its requests."""

    def __init__(self, script: Callable[[ChatRequest], AsyncIterator[list[Delta]]]) -> None:
        self.request_count = 0
        self._script = script

    async def answer(self, request: ChatRequest, sink: DeltaSink) -> None:
        """See `Provider`."""
        self.request_count += 1
        async with aclosing(cast("AsyncGenerator[list[Delta]]", self._script(request))) as batches:
            async for batch in batches:
                await deliver(batch, sink)


class ScriptedProviders(ProviderClients):
    """Providers whose every model is answered by one `Scripted`."""

    def __init__(self, script: Callable[[ChatRequest], AsyncIterator[list[Delta]]]) -> None:
        super().__init__(Catalog({}))
        self.scripted = Scripted(script)

    def client(self, route: Route, key: str = "") -> Provider:
        """See `ProviderClients`."""
        return self.scripted

    async def load(self, route: Route) -> None:
        """Do nothing, because no SDK has to be imported."""
