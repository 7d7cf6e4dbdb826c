"""Fixtures that many tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from gateway.telemetry.logs import log_through_stdlib
from tests.gateway_process import GatewayProcess, gateway_process

log_through_stdlib()
# How long an example takes says nothing on a machine that others use too.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """A gateway process with default settings, no key, and a store of its own."""
    async with gateway_process(tmp_path) as process:
        yield process
