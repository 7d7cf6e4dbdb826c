"""The objects that the modules for turns share within one gateway instance."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.settings import Settings
from gateway.telemetry.metrics import Telemetry
from gateway.telemetry.tracing import Tracing
from gateway.turns.registry import TurnRegistry
from providers.catalog.catalog import Catalog
from store.api import Store


@dataclass(frozen=True, slots=True)
class Instance:
    """One gateway process. `id` is new at each start; `tasks` owns every task that outlives a request."""

    id: str
    settings: Settings
    store: Store
    registry: TurnRegistry
    catalog: Catalog
    telemetry: Telemetry
    tracing: Tracing | None
    tasks: asyncio.TaskGroup

    @property
    def lease_ms(self) -> int:
        """The duration of a lease in ms."""
        return int(self.settings.lease_s * 1000)
