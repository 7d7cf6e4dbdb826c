"""A store wrapper that times calls and counts failures. The gateway makes no call per token."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, cast

from gateway.store_wrapper import Call, wrap_calls
from gateway.telemetry.metrics import Telemetry
from store.api import Store
from store.archive.api import Archive
from store.errors import Busy, Conflict, Fenced, Limited, LogGap, NotFound, StoreError

EXPECTED_ERRORS = (Busy, Conflict, Fenced, Limited, LogGap, NotFound)
"""The `StoreError`s that are answers of a working store, not failures."""
UNTIMED = frozenset({"open", "close", "run_pubsub"})
"""The calls that are made once per process."""


def measure_calls(store: Store, telemetry: Telemetry) -> Store:
    """Return a wrapper of `store` that times its calls and counts its failures."""
    return wrap_calls(store, _measuring(telemetry))


def measure_archive_calls(archive: Archive, telemetry: Telemetry) -> Archive:
    """Return a wrapper of `archive` as `measure_calls` does. The names of its operations begin with `archive_`."""
    return cast("Archive", wrap_calls(cast("Store", archive), _measuring(telemetry, "archive_")))


def _measuring(telemetry: Telemetry, prefix: str = "") -> Callable[[str, Call], Call]:
    def wrap(name: str, call: Call) -> Call:
        if name in UNTIMED:
            return call
        operation = prefix + name
        duration = telemetry.store_call_duration.labels(operation)

        async def timed(*args: Any, **fields: Any) -> Any:
            began = perf_counter()
            try:
                return await call(*args, **fields)
            except EXPECTED_ERRORS:
                raise
            except StoreError:
                telemetry.store_errors.labels(operation).inc()
                raise
            finally:
                duration.observe(perf_counter() - began)

        return timed

    return wrap
