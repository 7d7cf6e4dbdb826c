"""Tests of a path prefix: everything is served below it, with the same contents as without a prefix."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx2
import pytest
from pydantic import ValidationError
from websockets.asyncio.client import connect

from tests.in_loop_server import InLoopServer, serving
from tests.in_process import make_settings


@pytest.fixture
async def server() -> AsyncIterator[InLoopServer]:
    async with serving(path_prefix="/tools/chat") as running:
        yield running


async def test_page_files_api_and_socket_are_below_the_prefix(server: InLoopServer) -> None:
    """They are also served without the prefix, which a health check doesn't send."""
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as http:
        for path in ("/", "/static/turnwire.js", "/health", "/v1/models"):
            below, bare = await http.get(f"/tools/chat{path}"), await http.get(path)
            assert (below.status_code, below.content) == (200, bare.content)
        assert (await http.get("/tools/chatter")).status_code == 404
        assert (await http.get("/tools/chat/nothing")).status_code == 404
    async with connect(f"{server.url.replace('http', 'ws', 1)}/tools/chat/ws") as socket:
        assert json.loads(await socket.recv())["type"] == "ready"


async def test_location_headers_have_the_prefix(server: InLoopServer) -> None:
    """`Location` has the prefix only if the request had it, so the client can use it."""
    start = {"input": "Hi", "params": {"demo": {"text": "Yes."}}}
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as http:
        for prefix in ("/tools/chat", ""):
            for path, body, headers in (
                ("/v1/conversations", {}, {}),
                ("/v1/turns", start, {}),
                ("/v1/turns", start, {"accept": "text/event-stream"}),
                ("/v1/turns", start, {"prefer": "respond-async"}),
            ):
                answer = await http.post(prefix + path, json=body, headers=headers)
                address = answer.headers["location"]
                assert address.startswith(f"{prefix}{path}/")
                assert (await http.get(address)).status_code == 200


async def test_the_prefix_without_a_slash_redirects(server: InLoopServer) -> None:
    """The page's relative URLs need the slash. The redirect is also relative."""
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as http:
        answer = await http.get("/tools/chat")
        assert (answer.status_code, answer.headers["location"]) == (308, "chat/")
        followed = await http.get("/tools/chat", follow_redirects=True)
        assert followed.url.path == "/tools/chat/"
        assert followed.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(("given", "normalized"), [("", ""), ("/", ""), ("chat", "/chat"), ("/a/b/", "/a/b")])
def test_slashes_around_a_prefix_are_normalized(given: str, normalized: str) -> None:
    """The prefix begins with one slash and ends without one."""
    assert make_settings(path_prefix=given).path_prefix == normalized


def test_a_prefix_is_a_plain_path() -> None:
    """A second host, a query or a space in it is an invalid setting."""
    for wrong in ("//elsewhere", "/a?b", "/a b"):
        with pytest.raises(ValidationError, match="path_prefix"):
            make_settings(path_prefix=wrong)
