"""The interface of a dialect's client, which `providers/clients.py` loads."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from providers.base import ChatRequest, DeltaSink, ResponseHandle
from providers.route import Route


class Dialect(Protocol):
    """A client of one endpoint, for all of its models. A `Provider` calls it with a route."""

    async def answer(self, request: ChatRequest, route: Route, sink: DeltaSink) -> None: ...

    async def aclose(self) -> None: ...


@runtime_checkable
class Stoppable(Protocol):
    """A dialect whose provider may continue an answer after the connection is closed."""

    async def stop(self, handle: ResponseHandle) -> None:
        """Stop the answer with this response handle at the provider. Raise `ProviderError` on failure."""
