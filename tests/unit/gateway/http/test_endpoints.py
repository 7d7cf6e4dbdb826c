"""Addresses: methods, origins, errors."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from gateway.http.endpoints import api_routes
from gateway.http.operations import OPERATIONS
from tests.http_events import http_client
from tests.in_loop_server import InLoopServer, serving

OTHER = "https://app.example"


@pytest.fixture
async def server() -> AsyncIterator[InLoopServer]:
    async with serving(allowed_origins=(OTHER,)) as running:
        yield running


@pytest.fixture
async def http(server: InLoopServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(server.url) as http:
        yield http


def test_every_operation_has_its_route() -> None:
    """One route for each address, with all its methods."""

    routed = {
        (method, route.path)
        for route in api_routes()
        for method in route.methods or ()
        if method not in {"HEAD", "OPTIONS"}
    }
    assert routed == {(operation.method, operation.path) for operation in OPERATIONS}


async def test_an_address_says_its_methods(http: httpx2.AsyncClient) -> None:
    """OPTIONS lists them; another one is 405 with the same list; HEAD is GET without the body."""
    answer = await http.options("/v1/conversations")
    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    wrong = await http.put("/v1/conversations", json={})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "invalid_request")
    assert set(wrong.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    head = await http.head("/v1/models")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len((await http.get("/v1/models")).content)


async def test_an_address_with_a_slash_behind_it_is_another(http: httpx2.AsyncClient) -> None:
    """It is unknown like others, and not redirected to whatever `Host` says."""
    for address in ("/v1/models/", "/v1/turns/t/", "/docs/"):
        answer = await http.get(address, headers={"host": "localhost:1"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("address", "query"),
    [
        ("/v1/turns", "turn=t"),
        ("/v1/turns", "x=1"),
        ("/v1/conversations", "title=a"),
        ("/v1/turns/t/cancel", "reason=a"),
    ],
)
async def test_what_belongs_in_a_body_is_not_lost_in_a_query(
    http: httpx2.AsyncClient, address: str, query: str
) -> None:
    """Whoever says an idempotency key where it isn't looked for is told, before anything is done."""
    answer = await http.post(f"{address}?{query}", json={"input": "x"} if address == "/v1/turns" else {})
    assert (answer.status_code, answer.json()["error"]["path"]) == (400, query.partition("=")[0])
    assert (await http.get("/v1/conversations")).json() == {"conversations": []}


async def test_a_listed_origin_may_read_answers(http: httpx2.AsyncClient) -> None:
    """Preflight and answer name it; what a page needs to resume is exposed."""
    asked = {
        "origin": OTHER,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, last-event-id, prefer",
    }
    preflight = await http.options("/v1/turns", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == OTHER
    assert "access-control-allow-credentials" not in preflight.headers
    answer = await http.get("/v1/models", headers={"origin": OTHER})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, OTHER)
    assert "location" in answer.headers["access-control-expose-headers"]
    assert "Origin" in answer.headers["vary"]
    failed = await http.get("/v1/turns/unknown", headers={"origin": OTHER})
    assert (failed.status_code, failed.headers["access-control-allow-origin"]) == (404, OTHER)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://app.example"])
async def test_a_foreign_origin_may_not(http: httpx2.AsyncClient, server: InLoopServer, origin: str) -> None:
    """Neither ask nor read, whatever its request looks like; what is public says nothing worth reading."""
    asked = {"origin": origin, "access-control-request-method": "POST"}
    preflight = await http.options("/v1/turns", headers=asked)
    assert "access-control-allow-origin" not in preflight.headers
    for answer in (
        await http.get("/v1/models", headers={"origin": origin}),
        await http.post("/v1/turns", json={"input": "x"}, headers={"origin": origin}),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert server.gateway.services.registry.live() == []
    assert (await http.get("/health", headers={"origin": origin})).status_code == 200


async def test_the_page_s_own_origin_may(http: httpx2.AsyncClient, server: InLoopServer) -> None:
    """A browser names it in every POST."""
    assert (await http.get("/v1/models", headers={"origin": server.url})).status_code == 200


async def test_a_defect_is_internal_and_says_nothing(
    http: httpx2.AsyncClient, server: InLoopServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Law 13: no stack trace reaches a client; the log has it."""

    def break_down(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(server.gateway.services.catalog, "models", break_down)
    answer = await http.get("/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert "secret detail" in caplog.text
