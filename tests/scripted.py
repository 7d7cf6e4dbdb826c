"""Providers that say what a test tells them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from providers.base import ChatRequest, Delta, DeltaSink, Provider
from providers.catalog.catalog import Catalog, Providers
from providers.route import Route


class Scripted:
    """A provider that says what a test tells it, and counts how often it was asked."""

    def __init__(self, script: Callable[[ChatRequest], AsyncIterator[list[Delta]]]) -> None:
        self.asked = 0
        self._script = script

    def stream(self, request: ChatRequest, take: DeltaSink | None = None) -> AsyncIterator[list[Delta]]:
        """See `Provider`."""
        self.asked += 1
        return self._script(request)

    async def aclose(self) -> None:
        """Nothing to close."""


class ScriptedProviders(Providers):
    """Every model is the scripted one."""

    def __init__(self, script: Callable[[ChatRequest], AsyncIterator[list[Delta]]]) -> None:
        super().__init__(Catalog({}))
        self.scripted = Scripted(script)

    def of(self, route: Route, key: str = "") -> Provider:
        """See `Providers`."""
        return self.scripted

    async def load(self, route: Route) -> None:
        """Nothing to import."""
