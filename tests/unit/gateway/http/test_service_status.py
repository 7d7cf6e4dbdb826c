"""Tests of the operations that describe the service: health, readiness and the like."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from store.errors import PartFailed
from tests.http_events import http_client
from tests.in_loop_server import InLoopServer, serving
from tests.redis_process import redis_process


@pytest.fixture
async def server() -> AsyncIterator[InLoopServer]:
    async with serving() as running:
        yield running


@pytest.fixture
async def http(server: InLoopServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(server.url) as client:
        yield client


async def test_public_paths_are_served(http: httpx2.AsyncClient, server: InLoopServer) -> None:
    """This covers health, readiness, service information and the models."""
    assert (await http.get("/health")).json() == {"status": "ok"}
    assert (await http.get("/ready")).json() == {"status": "ready", "store": "ok"}
    about = (await http.get("/v1")).json()
    assert (about["name"], about["protocol"], about["auth"]) == ("turnwire", "turnwire.v1", "none")
    assert about["subprotocols"] == ["turnwire.v1.json", "turnwire.v1.msgpack"]
    assert about["instance"] == server.gateway.services.instance
    models = (await http.get("/v1/models")).json()
    assert models["default"] == "demo"
    assert "demo" in {model["id"] for model in models["models"]}


async def test_a_draining_instance_is_not_ready(http: httpx2.AsyncClient, server: InLoopServer) -> None:
    """`/ready` returns 503 with the error, and `/health` still returns 200."""
    server.gateway.services.runner.is_draining = True
    answer = await http.get("/ready")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
    assert (await http.get("/health")).status_code == 200


async def test_an_instance_without_its_store_is_not_ready(http: httpx2.AsyncClient, server: InLoopServer) -> None:
    """While the store is unreachable, `/ready` and requests that need the store return 503."""
    await server.gateway.store.close()
    assert (await http.get("/ready")).json()["error"]["code"] == "store_unavailable"
    answer = await http.get("/v1/conversations")
    assert (answer.status_code, answer.json()["error"]["retryable"]) == (503, True)


async def test_an_instance_with_a_read_only_store_is_degraded(tmp_path: Path) -> None:
    """A full Redis or a replica affects every instance, so `/ready` still returns 200, but turns can't be started.

    Once Redis accepts writes again, the state is normal.
    """
    with redis_process(tmp_path / "redis") as redis:
        async with serving(store=redis.url) as server, httpx2.AsyncClient(base_url=server.url) as http:
            for wrong, right in (
                (("CONFIG", "SET", "maxmemory", "100kb"), ("CONFIG", "SET", "maxmemory", 0)),
                (("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE")),
            ):
                redis.execute(*wrong)
                answer = await http.get("/ready")
                assert (answer.status_code, answer.json()) == (200, {"status": "ready", "store": "degraded"})
                refused = await http.post("/v1/turns", json={"input": "x"})
                assert refused.json()["error"]["code"] == "store_unavailable"
                redis.execute(*right)
                assert (await http.get("/ready")).json() == {"status": "ready", "store": "ok"}


async def test_a_part_of_the_store_that_fails_does_not_hide_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a master of a cluster is away, `/ready` names the state of the archive too."""
    with redis_process(tmp_path / "redis") as redis:
        archive = f"sqlite:///{tmp_path / 'archive.db'}"
        async with serving(store=redis.url, archive=archive) as server, httpx2.AsyncClient(base_url=server.url) as http:
            assert (await http.get("/ready")).json() == {"status": "ready", "store": "ok", "archive": "ok"}

            async def ping() -> None:
                raise PartFailed

            monkeypatch.setattr(server.gateway.store, "ping", ping)
            assert (await http.get("/ready")).json() == {"status": "ready", "store": "degraded", "archive": "ok"}
