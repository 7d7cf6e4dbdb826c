"""The provider clients of one process. A client and its SDK are loaded when the first request needs them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from contextlib import suppress
from importlib import import_module
from typing import Final

from msgspec import structs

from providers.base import Provider, ProviderError, ResponseHandle
from providers.catalog.catalog import Catalog
from providers.dialect import Dialect, Stoppable
from providers.endpoint import Endpoint
from providers.route import DialectName, Route
from providers.routed_provider import RoutedProvider
from providers.timeouts import Timeouts

DEFAULT_TIMEOUTS = Timeouts()
PRELOAD_PAUSE_S = 0.2
DIALECTS: Final[dict[DialectName, str]] = {
    "demo": "providers.demo.model",
    "openai_chat": "providers.openai.chat",
    "openai_responses": "providers.openai.responses",
    "anthropic": "providers.anthropic.messages",
    "anthropic_bedrock": "providers.anthropic.bedrock",
    "anthropic_vertex": "providers.anthropic.vertex",
    "anthropic_foundry": "providers.anthropic.foundry",
}
"""Map from each dialect's name to its module."""


def _create_dialect(name: DialectName, endpoint: Endpoint, timeouts: Timeouts) -> Dialect:
    """Return a client of this dialect. This imports the dialect's SDK, if it isn't imported."""
    dialect: Dialect = import_module(DIALECTS[name]).Dialect(endpoint, timeouts)
    return dialect


class ProviderClients:
    """One client per provider, dialect and key, created at its first request."""

    def __init__(self, catalog: Catalog, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._catalog = catalog
        self._timeouts = timeouts
        self._dialects: dict[tuple[str, DialectName, int], Dialect] = {}
        self._loaded: set[str] = set()
        self._loading = 0

    def endpoints(self) -> list[Endpoint]:
        """Return the endpoints of all providers that this process can use, except the demo. See `Catalog`."""
        return self._catalog.endpoints()

    def fallbacks(self, route: Route) -> list[Route]:
        """Return the fallback routes of `route`, without those that this process can't use."""
        found = []
        for model_id in route.fallbacks:
            with suppress(ProviderError):
                found.append(self._catalog.resolve(model_id))
        return found

    def client(self, route: Route, key: str = "") -> Provider:
        """Return the provider client of `route` with the API key `key`, or with the first key if `key` is empty.

        The first call for a dialect imports its SDK (see `load`).
        """
        return RoutedProvider(self._dialect(route, key), route)

    def _dialect(self, route: Route, key: str = "") -> Dialect:
        endpoint = self._catalog.endpoint(route.provider)
        index = endpoint.api_keys.index(key) if key else 0
        cache_key = route.provider, route.dialect, index
        if cache_key not in self._dialects:
            endpoint = structs.replace(endpoint, api_keys=endpoint.api_keys[index : index + 1])
            self._dialects[cache_key] = _create_dialect(route.dialect, endpoint, self._timeouts)
        return self._dialects[cache_key]

    def skipped_events(self) -> Counter[str]:
        """Return how many events of each provider held no chunk of an answer and were skipped."""
        counts: Counter[str] = Counter()
        for (provider, _, _), dialect in self._dialects.items():
            counts[provider] += getattr(dialect, "skipped_events", 0)
        return counts

    async def stop(self, handle: ResponseHandle) -> None:
        """Stop the answer that `handle` refers to. Otherwise the provider would complete it.

        Raise `ProviderError` if that fails.
        """
        route = self._catalog.resolve(handle.route)
        await self.load(route)
        dialect = self._dialect(route)
        if isinstance(dialect, Stoppable):
            await dialect.stop(handle)

    async def load(self, route: Route) -> None:
        """Import the route's dialect with its SDK in a thread, because that takes half a second."""
        if route.dialect not in self._loaded:
            self._loading += 1
            try:
                await asyncio.to_thread(self._preload, route.dialect, route.provider)
            finally:
                self._loading -= 1
            self._loaded.add(route.dialect)

    def _preload(self, dialect: DialectName, provider: str) -> None:
        """Import the dialect and create an unused client: an SDK imports half of its modules only when it creates one."""
        _create_dialect(dialect, self._catalog.endpoint(provider), self._timeouts)

    def preload(self, default_model: str) -> None:
        """Import what the first turn would have to wait for. The caller runs this in a thread.

        It pauses while a turn loads a dialect, so that the turn goes first.
        """
        for dialect, provider in self._catalog.dialects(default_model).items():
            while self._loading:
                time.sleep(PRELOAD_PAUSE_S)
            self._preload(dialect, provider)
        if "providers.http.transport" in sys.modules:
            sys.modules["providers.http.transport"].tls_context()

    async def aclose(self) -> None:
        """Close every client."""
        dialects, self._dialects = self._dialects, {}
        for dialect in dialects.values():
            await dialect.aclose()
