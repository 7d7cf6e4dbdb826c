"""Tests of paths, methods, origins and errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from gateway.http.endpoints import api_routes
from gateway.http.operations import OPERATIONS
from gateway.protocol.errors import ApiError
from store.errors import StoreError
from tests.http_events import http_client
from tests.in_loop_server import InLoopServer, serving

OTHER = "https://app.example"
ORIGIN_REFUSED = (
    "Pages of the origin https://evil.example may not use this gateway. "
    "The operator can add it to TURNWIRE_ALLOWED_ORIGINS."
)


@pytest.fixture
async def server() -> AsyncIterator[InLoopServer]:
    async with serving(allowed_origins=(OTHER,)) as running:
        yield running


@pytest.fixture
async def http(server: InLoopServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(server.url) as http:
        yield http


def test_every_operation_has_its_route() -> None:
    """The routes have exactly the paths and methods of the operations."""
    routed = {
        (method, route.path.replace(":path}", "}"))
        for route in api_routes()
        for method in route.methods or ()
        if method not in {"HEAD", "OPTIONS"}
    }
    assert routed == {(operation.method, operation.path) for operation in OPERATIONS}


async def test_options_lists_the_methods_of_a_path(http: httpx2.AsyncClient) -> None:
    """Any other method is answered 405 with the same list. HEAD is answered like GET, without the body."""
    answer = await http.options("/v1/conversations")
    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    wrong = await http.put("/v1/conversations", json={})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "invalid_request")
    assert set(wrong.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    head = await http.head("/v1/models")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len((await http.get("/v1/models")).content)


async def test_a_longer_path_is_not_taken_for_the_name_of_a_user(http: httpx2.AsyncClient) -> None:
    """`DELETE` of the path of ann's export is refused, and doesn't erase ann. With an escaped slash, the path names the
    user `ann/export`, who is erased."""
    wrong = await http.delete("/v1/users/ann/export")
    assert (wrong.status_code, set(wrong.headers["allow"].split(", "))) == (405, {"GET", "HEAD", "OPTIONS"})
    assert (await http.delete("/v1/users/ann%2Fexport", timeout=30)).status_code == 200


async def test_the_export_from_a_store_that_is_away_is_an_error(
    server: InLoopServer, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client doesn't get the beginning of an export that can't go on."""

    async def fail(*_: object, **_options: object) -> None:
        raise StoreError("The store can't be reached.")

    monkeypatch.setattr(server.gateway.services.store, "conversations", fail)
    answer = await http.get("/v1/users/me/export")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")


async def test_a_path_with_a_trailing_slash_is_unknown(http: httpx2.AsyncClient) -> None:
    """It is not redirected to the host of the `Host` header."""
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
async def test_a_body_field_in_the_query_is_refused(http: httpx2.AsyncClient, address: str, query: str) -> None:
    """The field would otherwise be ignored: with `turn` in the query, a repeated start would run twice.

    The request is refused before it has any effect.
    """
    answer = await http.post(f"{address}?{query}", json={"input": "x"} if address == "/v1/turns" else {})
    assert (answer.status_code, answer.json()["error"]["path"]) == (400, query.partition("=")[0])
    assert (await http.get("/v1/conversations")).json() == {"conversations": []}


async def test_an_allowed_origin_may_read_responses(http: httpx2.AsyncClient) -> None:
    """The preflight and the responses name the origin. `Location` is exposed, which a page needs to resume."""
    headers = {
        "origin": OTHER,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, last-event-id, prefer",
    }
    preflight = await http.options("/v1/turns", headers=headers)
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
async def test_another_origin_is_refused(http: httpx2.AsyncClient, server: InLoopServer, origin: str) -> None:
    """It can neither send requests nor read responses. Public paths answer it: their content is not confidential."""
    headers = {"origin": origin, "access-control-request-method": "POST"}
    preflight = await http.options("/v1/turns", headers=headers)
    assert "access-control-allow-origin" not in preflight.headers
    for answer in (
        await http.get("/v1/models", headers={"origin": origin}),
        await http.post("/v1/turns", json={"input": "x"}, headers={"origin": origin}),
        await http.get("/v1", headers={"origin": origin}),
        await http.get("/v1", params={"origin": origin}, headers={"origin": origin}),
    ):
        assert answer.status_code == 403
        assert answer.json().keys() == {"error"}
        assert (answer.json()["error"]["code"], origin in answer.text) == ("forbidden_origin", True)
        # Exactly this error is readable for every page, so that it can say what to set.
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert server.gateway.services.registry.live() == []
    public = await http.get("/health", headers={"origin": origin})
    assert (public.status_code, "access-control-allow-origin" in public.headers) == (200, False)
    stated = await http.get("/v1", params={"origin": origin})
    assert (stated.status_code, stated.json()["error"]["code"]) == (403, "forbidden_origin")
    assert (await http.get("/", headers={"origin": origin, "accept": "application/json"})).status_code == 200


async def test_each_dialect_refuses_another_origin_in_its_own_shape(http: httpx2.AsyncClient) -> None:
    """The error has the dialect's form, names the setting, and can be read by the page."""
    operations = [one for one in OPERATIONS if one.dialect and not one.is_public and "{" not in one.path]
    assert len({one.dialect.name for one in operations if one.dialect}) == 6
    for one in operations:
        body: dict[str, Any] | None = {} if one.method == "POST" else None
        answer = await http.request(one.method, one.path, headers={"origin": "https://evil.example"}, json=body)
        assert one.dialect is not None
        shaped = one.dialect.refuse(ApiError("forbidden_origin", ORIGIN_REFUSED).body, 403)
        assert (answer.status_code, answer.content) == (shaped.status, shaped.body), one.path
        assert answer.headers["access-control-allow-origin"] == "*"


async def test_the_pages_own_origin_is_allowed(http: httpx2.AsyncClient, server: InLoopServer) -> None:
    """A browser sends it with every POST."""
    assert (await http.get("/v1/models", headers={"origin": server.url})).status_code == 200


async def test_an_unexpected_error_is_internal_without_details(
    http: httpx2.AsyncClient, server: InLoopServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Law 13: no stack trace is sent to a client; it is logged."""

    def fail(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(server.gateway.services.catalog, "models", fail)
    answer = await http.get("/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert "secret detail" in caplog.text


async def test_pins_and_continued_answers_over_http(http: httpx2.AsyncClient) -> None:
    """A conversation is pinned, the pinned ones are listed, and an answer that was cut is continued, as over the socket."""
    cut = {"rate": 0, "tokens": 40, "fail": "length", "fail_after": 10}
    start = {"input": "Hello", "params": {"demo": cut}}
    turn = (await http.post("/v1/turns", json=start, headers={"accept": "application/json"})).json()
    path = f"/v1/conversations/{turn['conversation']}"
    await http.post("/v1/conversations", json={"title": "other"})
    assert (await http.patch(path, json={"pinned": True})).json()["pinned"]
    listed = (await http.get("/v1/conversations", params={"pinned": "true"})).json()["conversations"]
    assert [one["id"] for one in listed] == [turn["conversation"]]
    more = {"conversation": turn["conversation"], "parent": turn["message"]["id"], "continue": True}
    rest = {**more, "params": {"demo": {"rate": 0, "tokens": 40}}}
    whole = (await http.post("/v1/turns", json=rest, headers={"accept": "application/json"})).json()
    before = turn["message"]["parts"][0]["text"]
    assert whole["message"]["parts"][0]["text"].startswith(before)
    assert whole["finish_reason"] == "stop"
    refused = await http.post("/v1/turns", json={**more, "input": "x"})
    assert (refused.status_code, refused.json()["error"]["path"]) == (400, "continue")
