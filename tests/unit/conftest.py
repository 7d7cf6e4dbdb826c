"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from gateway.requests.services import Services
from providers.http.transport import http_client
from providers.timeouts import Timeouts
from tests.in_process import ControlledStore, Instance, SessionClient, open_client, open_pair, open_services, open_store
from tests.upstream import Upstream


@pytest.fixture
async def store() -> AsyncIterator[ControlledStore]:
    """A store in memory whose calls can be made to fail or to wait."""
    async with open_store() as store:
        yield store


@pytest.fixture
async def services(store: ControlledStore) -> AsyncIterator[Services]:
    """The services of one instance in this event loop."""
    async with open_services(store) as services:
        yield services


@pytest.fixture
async def ann(services: Services) -> AsyncIterator[SessionClient]:
    """A client of user ann."""
    async with open_client(services) as client:
        yield client


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the intervals and delays of an instance's background tasks."""
    monkeypatch.setattr("gateway.turns.reaper.REAP_S", 0.05)
    monkeypatch.setattr("gateway.turns.log_writer.DEGRADED_AFTER_S", 0)
    monkeypatch.setattr("gateway.turns.mirrors.POLL_S", 0.05)
    monkeypatch.setattr("gateway.turns.mirrors.SILENT_S", 0.05)
    monkeypatch.setattr("gateway.turns.presence.PRESENCE_RENEW_S", 0.05)


@pytest.fixture
async def pair(quick: None) -> AsyncIterator[tuple[Instance, Instance]]:
    """Two instances on one store, with short leases."""
    async with open_pair() as pair:
        yield pair


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A local server in the role of a provider."""
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """The HTTP client that the SDKs use."""
    async with http_client(Timeouts()) as client:
        yield client
