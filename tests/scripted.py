"""Providers that say what a test tells them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import cast

from providers.base import ChatRequest, Delta, DeltaSink, Provider, deliver
from providers.catalog.catalog import Catalog, Providers
from providers.route import Route


class Scripted:
    """A provider that says what a test tells it, and counts how often it was asked."""

    def __init__(self, script: Callable[[ChatRequest], AsyncIterator[list[Delta]]]) -> None:
        self.request_count = 0
        self._script = script

    async def answer(self, request: ChatRequest, sink: DeltaSink) -> None:
        """See `Provider`."""
        self.request_count += 1
        async with aclosing(cast("AsyncGenerator[list[Delta]]", self._script(request))) as batches:
            async for batch in batches:
                await deliver(batch, sink)


class ScriptedProviders(Providers):
    """Every model is the scripted one."""

    def __init__(self, script: Callable[[ChatRequest], AsyncIterator[list[Delta]]]) -> None:
        super().__init__(Catalog({}))
        self.scripted = Scripted(script)

    def client(self, route: Route, key: str = "") -> Provider:
        """See `Providers`."""
        return self.scripted

    async def load(self, route: Route) -> None:
        """Nothing to import."""
