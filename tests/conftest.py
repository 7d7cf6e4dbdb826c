"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from gateway.telemetry.logs import configure_structlog
from tests import gateway_process as gateway_processes
from tests.examples import FUZZED, examples
from tests.gateway_forks import ForkServer
from tests.gateway_process import GatewayProcess, gateway_process

configure_structlog()
# Examples have no deadline, because other load on a shared machine makes some of them slow.
settings.register_profile("patient", deadline=None, max_examples=examples(100))
settings.load_profile("patient")

# Everything that the tests start is on loopback, where no proxy is used.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost,::1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Remove the timeouts of all tests for `make fuzz`, whose duration depends on the number of examples."""
    for item in items if FUZZED else []:
        item.add_marker(pytest.mark.timeout(0), append=False)


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> Iterator[None]:
    """Start the process that forks gateways. For coverage, each gateway starts as a new interpreter instead."""
    if os.environ.get("TESTS_FORK") == "0":
        yield
        return
    server = gateway_processes.fork_server = ForkServer()
    yield
    gateway_processes.fork_server = None
    server.stop()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """A gateway process with default settings, no API key, and its own store."""
    async with gateway_process(tmp_path) as process:
        yield process
