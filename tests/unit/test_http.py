"""Plain HTTP: page, health, readiness, service information, and the headers that every answer has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from gateway.http import static_folder
from tests.in_loop_server import InLoopServer, serving


@pytest.fixture
async def server() -> AsyncIterator[InLoopServer]:
    async with serving() as running:
        yield running


@pytest.fixture
async def http(server: InLoopServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as client:
        yield client


async def test_each_path_has_its_answer(http: httpx2.AsyncClient, server: InLoopServer) -> None:
    """Health, readiness, service information and the models."""
    assert (await http.get("/health")).json() == {"status": "ok"}
    assert (await http.get("/ready")).json() == {"status": "ready", "store": "ok"}
    about = (await http.get("/v1")).json()
    assert (about["name"], about["protocol"], about["auth"]) == ("turnwire", "turnwire.v1", "none")
    assert about["subprotocols"] == ["turnwire.v1.json", "turnwire.v1.msgpack"]
    assert about["instance"] == server.gateway.services.instance
    models = (await http.get("/v1/models")).json()
    assert models["default"] == "demo"
    assert "demo" in {model["id"] for model in models["models"]}


async def test_the_page_and_its_files_are_served(http: httpx2.AsyncClient) -> None:
    """`/` is the page, `/static` its files, and nothing outside of their folder."""
    page = await http.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert (await http.get("/static/index.html")).content == page.content
    for path in ("/static/../pyproject.toml", "/static/%2e%2e/pyproject.toml", "/static/nothing", "/nothing"):
        assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize("path", ["/", "/health", "/nothing", "/static/index.html"])
async def test_every_answer_has_the_security_headers(http: httpx2.AsyncClient, path: str) -> None:
    """No inline script, no foreign source, no frame around it, no sniffing; on errors too."""
    headers = (await http.get(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


async def test_a_foreign_host_is_refused(http: httpx2.AsyncClient) -> None:
    """With auth off only loopback names are served, on every path."""
    for path in ("/", "/health", "/v1/models"):
        answer = await http.get(path, headers={"host": "example.com"})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "forbidden"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await http.get("/health", headers={"host": "localhost:1"})).status_code == 200


async def test_a_draining_instance_is_not_ready(http: httpx2.AsyncClient, server: InLoopServer) -> None:
    """`/ready` answers 503 with the error, `/health` goes on."""
    server.gateway.services.runner.draining = True
    answer = await http.get("/ready")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
    assert (await http.get("/health")).status_code == 200


def test_the_page_is_found_in_a_package_or_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside the installed package where it is there, else beside it."""
    assert (static_folder() / "index.html").is_file()
    package = tmp_path / "gateway"
    (package / "static").mkdir(parents=True)
    monkeypatch.setattr("gateway.http.__file__", str(package / "http.py"))
    assert static_folder() == package / "static"
    (package / "static").rmdir()
    assert static_folder() == tmp_path / "static"
