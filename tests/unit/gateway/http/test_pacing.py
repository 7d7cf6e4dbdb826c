"""HTTP requests wait if their user or network has taken more than its share of the event loop's time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from gateway.limits.loop_time import NETWORK_PREFIX
from tests.credentials import SECRET, bearer, token
from tests.http_events import http_client
from tests.in_loop_server import InLoopServer, serving
from tests.redis_process import redis_process

LONG_S = 60.0
ADDRESS = "/v1/models"


@pytest.fixture(params=["sqlite", "redis"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[InLoopServer]:
    if request.param == "sqlite":
        async with serving(auth="jwt", jwt_secret=SECRET) as running:
            yield running
        return
    with redis_process(tmp_path) as redis:
        async with serving(auth="jwt", jwt_secret=SECRET, store=redis.url) as running:
            yield running


@asynccontextmanager
async def verified(server: InLoopServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """Yield a list that receives the user of each credential that is verified."""
    users: list[str] = []
    authenticator = server.gateway.services.authenticator
    validate = authenticator._validate

    async def record(principal):  # type: ignore[no-untyped-def]
        users.append(principal.user)
        return await validate(principal)

    monkeypatch.setattr(authenticator, "_validate", record)
    yield users


async def test_law_11_a_user_over_its_share_waits_before_its_credential_is_verified(
    server: InLoopServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other users are served meanwhile. If the client leaves, its request isn't served at all."""
    loop_time = server.gateway.services.limits.loop_time
    async with (
        http_client(server.url, headers=bearer(token("eve"))) as eve,
        http_client(server.url, headers=bearer(token("ann"))) as ann,
        verified(server, monkeypatch) as users,
    ):
        assert (await eve.get(ADDRESS)).status_code == 200
        loop_time.charge("eve", LONG_S)
        waiting = asyncio.create_task(eve.get(ADDRESS))
        for _ in range(5):
            assert (await ann.get(ADDRESS)).status_code == 200
        assert not waiting.done()
        assert users == ["eve", *["ann"] * 5]
        waiting.cancel()
        await asyncio.wait([waiting])
        async with asyncio.timeout(5):
            while server.server.server_state.tasks:
                await asyncio.sleep(0.01)
        assert users.count("eve") == 1


async def test_the_time_of_a_request_is_charged_to_its_user(server: InLoopServer) -> None:
    """Without a valid credential it is charged to the network."""
    loop_time = server.gateway.services.limits.loop_time
    charged: dict[str, float] = {}
    charge = loop_time.charge

    def record(payer: str, took_s: float) -> None:
        charged[payer] = charged.get(payer, 0.0) + took_s
        charge(payer, took_s)

    loop_time.charge = record  # type: ignore[method-assign]
    network = f"{NETWORK_PREFIX}127.0.0.1"
    async with http_client(server.url) as http:
        for _ in range(3):
            assert (await http.get(ADDRESS, headers=bearer(token("ann")))).status_code == 200
        first = charged.pop(network)
        assert charged["ann"] > 3 * first
        for address, status in ((ADDRESS, 401), ("/nothing", 404), ("/openapi.json", 200)):
            before = charged.get(network, 0.0)
            assert (await http.get(address, headers=bearer("x.y.z"))).status_code == status
            assert charged[network] > before
        assert set(charged) == {"ann", network}


async def test_clients_of_a_trusted_proxy_pay_for_their_own_networks(server: InLoopServer) -> None:
    """The address is the one that the proxy names."""
    server.gateway.services.limits.loop_time.charge(f"{NETWORK_PREFIX}10.0.0.1", LONG_S)

    def request(http: httpx2.AsyncClient, client: str) -> asyncio.Task[httpx2.Response]:
        return asyncio.create_task(http.get("/health", headers={"x-forwarded-for": client}))

    async with http_client(server.url) as http:
        waiting = request(http, "10.0.0.1")
        assert (await request(http, "10.0.0.2")).status_code == 200
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
