"""A measured store is the same store: calls are timed, and what it can't do is counted."""

from __future__ import annotations

import pytest

from gateway.telemetry.measured_store import measure_calls
from gateway.telemetry.metrics import Telemetry
from store.records import NotFound, StoreError
from tests.in_process import SteeredStore
from tests.metrics import value


async def test_calls_are_timed_and_failures_counted(steered: SteeredStore) -> None:
    """An answer such as `NotFound` is none; the error comes through as it is."""
    telemetry = Telemetry([])
    store = measure_calls(steered.as_store, telemetry)
    assert store.shared is False
    await store.ping()
    with steered.failing("ping"), pytest.raises(StoreError, match="away"):
        await store.ping()
    with pytest.raises(NotFound):
        await store.turn("ann", "none")
    text = telemetry.render("")[0].decode()
    assert value(text, "turnwire_store_seconds_count", operation="ping") == 2
    assert value(text, "turnwire_store_errors_total", operation="ping") == 1
    assert value(text, "turnwire_store_seconds_count", operation="turn") == 1
    assert value(text, "turnwire_store_errors_total", operation="turn") == 0
