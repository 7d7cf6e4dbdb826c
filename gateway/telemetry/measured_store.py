"""A store wrapper that times calls and counts failures. Calls happen per flush and per request, never per token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from time import perf_counter
from typing import Any, cast

from gateway.telemetry.metrics import Telemetry
from store.api import Store
from store.records import Busy, Conflict, Fenced, Limited, LogGap, NotFound, StoreError

ANSWERS = (Busy, Conflict, Fenced, Limited, LogGap, NotFound)
"""The `StoreError`s that are answers of a working store, not failures."""
UNTIMED = frozenset({"open", "close", "run_pubsub"})


class _Measured:
    def __init__(self, store: Store, telemetry: Telemetry) -> None:
        self._store = store
        self._telemetry = telemetry

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not iscoroutinefunction(found) or name in UNTIMED:
            return found
        timed = _timed(found, name, self._telemetry)
        setattr(self, name, timed)  # later lookups find it without __getattr__
        return timed


def measured(store: Store, telemetry: Telemetry) -> Store:
    """Return the same store with its calls timed and its failures counted."""
    return cast("Store", _Measured(store, telemetry))


def _timed(call: Callable[..., Awaitable[Any]], name: str, telemetry: Telemetry) -> Callable[..., Awaitable[Any]]:
    took = telemetry.store.labels(name)

    async def timed(*args: Any, **fields: Any) -> Any:
        began = perf_counter()
        try:
            return await call(*args, **fields)
        except ANSWERS:
            raise
        except StoreError:
            telemetry.store_errors.labels(name).inc()
            raise
        finally:
            took.observe(perf_counter() - began)

    return timed
