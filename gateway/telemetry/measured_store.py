"""A store wrapper that times calls and counts failures. The gateway makes no call per token."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from gateway.store_wrapper import Call, wrap_calls
from gateway.telemetry.metrics import Telemetry
from store.api import Store
from store.records import Busy, Conflict, Fenced, Limited, LogGap, NotFound, StoreError

EXPECTED_ERRORS = (Busy, Conflict, Fenced, Limited, LogGap, NotFound)
"""The `StoreError`s that are answers of a working store, not failures."""
UNTIMED = frozenset({"open", "close", "run_pubsub"})
"""The calls that are made once per process."""


def measure_calls(store: Store, telemetry: Telemetry) -> Store:
    """Return a wrapper of `store` that times its calls and counts its failures."""

    def wrap(name: str, call: Call) -> Call:
        if name in UNTIMED:
            return call
        duration = telemetry.store_call_duration.labels(name)

        async def timed(*args: Any, **fields: Any) -> Any:
            began = perf_counter()
            try:
                return await call(*args, **fields)
            except EXPECTED_ERRORS:
                raise
            except StoreError:
                telemetry.store_errors.labels(name).inc()
                raise
            finally:
                duration.observe(perf_counter() - began)

        return timed

    return wrap_calls(store, wrap)
