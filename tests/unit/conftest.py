"""Fixtures of the unit tests."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from gateway.requests.services import Services
from providers.http.transport import http_client
from providers.route import Timeouts
from tests.in_process import Instance, Seat, SteeredStore, open_pair, open_services, open_store, seat
from tests.upstream import Upstream


@pytest.fixture(scope="module")
def frozen() -> Iterator[None]:
    """As in a server (`server.py`), garbage collections don't look at what was imported: they would be timed too."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
async def steered() -> AsyncIterator[SteeredStore]:
    """A store in memory whose calls can be made to fail or to wait."""
    async with open_store() as store:
        yield store


@pytest.fixture
async def services(steered: SteeredStore) -> AsyncIterator[Services]:
    """What a process has, in this loop."""
    async with open_services(steered) as made:
        yield made


@pytest.fixture
async def ann(services: Services) -> AsyncIterator[Seat]:
    """A client of user ann."""
    async with seat(services) as made:
        yield made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What instances do now and then, they do often."""
    monkeypatch.setattr("gateway.turns.reaper.REAP_S", 0.05)
    monkeypatch.setattr("gateway.turns.log_writer.DEGRADED_AFTER_S", 0)
    monkeypatch.setattr("gateway.turns.mirrors.POLL_S", 0.05)
    monkeypatch.setattr("gateway.turns.mirrors.QUIET_S", 0.05)
    monkeypatch.setattr("gateway.turns.mirrors.TOUCH_S", 0.05)


@pytest.fixture
async def pair(quick: None) -> AsyncIterator[tuple[Instance, Instance]]:
    """Two instances on one store, with short leases."""
    async with open_pair() as made:
        yield made


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A local provider."""
    async with Upstream() as made:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """The HTTP client under the SDKs."""
    async with http_client(Timeouts()) as made:
        yield made
