"""Below a path prefix everything is where it is without one."""

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
    """With the prefix and without: a proxy adds it, a health check doesn't."""
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as http:
        for path in ("/", "/static/turnwire.js", "/health", "/v1/models"):
            below, bare = await http.get(f"/tools/chat{path}"), await http.get(path)
            assert (below.status_code, below.content) == (200, bare.content)
        assert (await http.get("/tools/chatter")).status_code == 404
        assert (await http.get("/tools/chat/nothing")).status_code == 404
    async with connect(f"{server.url.replace('http', 'ws', 1)}/tools/chat/ws") as socket:
        assert json.loads(await socket.recv())["type"] == "ready"


async def test_addresses_in_answers_are_below_the_prefix(server: InLoopServer) -> None:
    """Where the client came by it, and only there: what it finds in `Location` it can ask for."""
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
                where = answer.headers["location"]
                assert where.startswith(f"{prefix}{path}/")
                assert (await http.get(where)).status_code == 200


async def test_the_prefix_without_its_slash_leads_to_the_page(server: InLoopServer) -> None:
    """The page's relative addresses need the slash; the redirect is relative too."""
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as http:
        answer = await http.get("/tools/chat")
        assert (answer.status_code, answer.headers["location"]) == (308, "chat/")
        followed = await http.get("/tools/chat", follow_redirects=True)
        assert followed.url.path == "/tools/chat/"
        assert followed.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(("given", "taken"), [("", ""), ("/", ""), ("chat", "/chat"), ("/a/b/", "/a/b")])
def test_slashes_around_a_prefix_are_no_matter(given: str, taken: str) -> None:
    """It begins with one slash and ends with none, however it is written."""
    assert make_settings(path_prefix=given).path_prefix == taken


def test_a_prefix_is_a_plain_path() -> None:
    """A query or a second host in it is a mistake, said at the start."""
    for wrong in ("//elsewhere", "/a?b", "/a b"):
        with pytest.raises(ValidationError, match="path_prefix"):
            make_settings(path_prefix=wrong)
