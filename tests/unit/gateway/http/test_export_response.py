"""The export of a user's data: others run meanwhile, and clients that read slowly are limited in number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.http import export_response
from gateway.http.export_response import EXPORT_PREFIX
from gateway.requests.export import Line
from tests.credentials import SECRET, bearer, token
from tests.http_events import http_client
from tests.in_loop_server import InLoopServer, serving

EXPORT = "/v1/users/me/export"
MESSAGES = 40


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[InLoopServer]:
    monkeypatch.setattr(export_response, "STEP_S", 0.0)
    async with serving(auth="jwt", jwt_secret=SECRET, user_connections=2, user_requests_per_s=0) as running:
        async with http_client(running.url, headers=bearer(token("ann"))) as http:
            assert (await http.post("/v1/conversations", json={"conversation": "c1"})).status_code == 201
            body = {"input": "x", "conversation": "c1", "params": {"demo": {"text": "Yes.", "rate": 0}}}
            for _ in range(MESSAGES // 2):
                assert (await http.post("/v1/turns", json=body)).status_code == 200
        yield running


async def test_law_11_others_run_between_the_lines_of_an_export(
    server: InLoopServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast the client reads, no page of messages holds the event loop, and the time is counted."""
    loop_time = server.gateway.services.limits.loop_time
    between: list[int] = []
    ticks = 0

    def count() -> None:
        nonlocal ticks
        ticks += 1
        asyncio.get_running_loop().call_soon(count)

    charged: list[str] = []
    encode, charge = export_response._encode, loop_time.charge

    def counted_encode(line: Line) -> bytes:
        between.append(ticks)
        return encode(line)

    def counted_charge(payer: str, took_s: float) -> None:
        charged.append(payer)
        charge(payer, took_s)

    monkeypatch.setattr(export_response, "_encode", counted_encode)
    monkeypatch.setattr(loop_time, "charge", counted_charge)
    asyncio.get_running_loop().call_soon(count)
    async with http_client(server.url, headers=bearer(token("ann"))) as http:
        lines = (await http.get(EXPORT)).text.splitlines()
    assert len(lines) == len(between) == len(set(between)) >= MESSAGES + 4
    assert EXPORT_PREFIX + "ann" in charged


async def test_law_11_an_export_over_its_share_waits(server: InLoopServer) -> None:
    """The user's other requests don't wait for it."""
    loop_time = server.gateway.services.limits.loop_time
    async with http_client(server.url, headers=bearer(token("ann"))) as http:
        loop_time.charge(EXPORT_PREFIX + "ann", 3600)
        users_wait = asyncio.create_task(http.get(EXPORT))
        for _ in range(5):
            assert (await http.get("/v1/usage")).status_code == 200
        assert not users_wait.done()
        loop_time.forget(EXPORT_PREFIX + "ann")
        assert (await users_wait).status_code == 200


async def test_law_11_exports_that_nobody_reads_are_limited(server: InLoopServer) -> None:
    """Until its client leaves, each counts as one of its user's connections, and their limit is for all instances."""
    server.gateway.services.limits.loop_time.charge(EXPORT_PREFIX + "ann", 3600)  # so that none of them ends
    async with http_client(server.url, headers=bearer(token("ann"))) as http:
        async with http.stream("GET", EXPORT) as one, http.stream("GET", EXPORT) as two:
            assert (one.status_code, two.status_code) == (200, 200)
            refused = await http.get(EXPORT)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
        server.gateway.services.limits.loop_time.forget(EXPORT_PREFIX + "ann")
        async with asyncio.timeout(30):
            while (await http.get(EXPORT)).status_code == 429:
                await asyncio.sleep(0.01)
