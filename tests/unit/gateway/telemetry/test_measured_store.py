"""Tests of the measured store: it behaves like the store, its calls are timed, and its failures are counted."""

from __future__ import annotations

import pytest

from gateway.telemetry.measured_store import measure_calls
from gateway.telemetry.metrics import Telemetry
from store.errors import NotFound, StoreError
from tests.in_process import ControlledStore
from tests.metrics import value


async def test_calls_are_timed_and_failures_counted(store: ControlledStore) -> None:
    """An expected error such as `NotFound` isn't counted as a failure. Errors pass through unchanged."""
    telemetry = Telemetry([])
    measured = measure_calls(store.as_store, telemetry)
    assert measured.shared is False
    await measured.ping()
    with store.failing("ping"), pytest.raises(StoreError, match="can't be reached"):
        await measured.ping()
    with pytest.raises(NotFound):
        await measured.turn("ann", "none")
    text = telemetry.render("")[0].decode()
    assert value(text, "turnwire_store_seconds_count", operation="ping") == 2
    assert value(text, "turnwire_store_errors_total", operation="ping") == 1
    assert value(text, "turnwire_store_seconds_count", operation="turn") == 1
    assert value(text, "turnwire_store_errors_total", operation="turn") == 0
