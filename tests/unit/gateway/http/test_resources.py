"""Tests of simple requests and their responses: conversations, messages, parts, feedback and usage."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.http_events import http_client
from tests.in_loop_server import InLoopServer, serving

PNG = bytes(range(256)) * 20
ENCODED = base64.b64encode(PNG).decode()


@pytest.fixture
async def server() -> AsyncIterator[InLoopServer]:
    async with serving() as running:
        yield running


@pytest.fixture
async def http(server: InLoopServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(server.url) as client:
        yield client


async def turn(http: httpx2.AsyncClient, input: Any, **fields: Any) -> dict[str, Any]:
    body = {"input": input, "params": {"demo": {"text": "Yes.", "rate": 0}}, **fields}
    answer = await http.post("/v1/turns", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_the_life_of_a_conversation(http: httpx2.AsyncClient) -> None:
    """It is created, read, listed, changed, used, cleared and deleted."""
    response = await http.post("/v1/conversations", json={"title": "One", "metadata": {"a": 1}})
    assert response.status_code == 201
    conversation = response.json()
    address = response.headers["location"]
    assert address == f"/v1/conversations/{conversation['id']}"
    assert (await http.get(address)).json() == conversation
    assert (await http.get("/v1/conversations", params={"query": "one"})).json() == {"conversations": [conversation]}
    changed = await http.patch(address, json={"title": "Two"})
    assert (changed.status_code, changed.json()["title"]) == (200, "Two")
    first = await turn(http, "Hi", conversation=conversation["id"])
    page = (await http.get(f"{address}/messages", params={"limit": 1})).json()
    assert page["messages"] == [first["message"]]
    before = (await http.get(f"{address}/messages", params={"before": page["next"]})).json()
    assert [message["role"] for message in before["messages"]] == ["user"]
    assert (await http.delete(f"{address}/context")).json() == {}
    assert (await http.get(address)).json()["head"] is None
    assert (await http.delete(address)).json() == {}
    assert (await http.get(address)).status_code == 404


async def test_pinned_conversations_can_be_listed(http: httpx2.AsyncClient) -> None:
    """With `pinned`, the list has only the pinned ones."""
    pinned = (await http.post("/v1/conversations", json={"title": "one"})).json()["id"]
    await http.post("/v1/conversations", json={"title": "other"})
    assert (await http.patch(f"/v1/conversations/{pinned}", json={"pinned": True})).json()["pinned"]
    listed = (await http.get("/v1/conversations", params={"pinned": "true"})).json()["conversations"]
    assert [one["id"] for one in listed] == [pinned]


async def test_data_is_read_by_its_url(http: httpx2.AsyncClient) -> None:
    """Large data is shown as a URL that returns the bytes. The client's media type and name are not trusted."""
    parts = [
        {"kind": "text", "text": "Look"},
        {"kind": "image", "media_type": "image/png", "data": ENCODED, "name": 'a"é\n.png'},
        {"kind": "file", "media_type": "text/html\r\nx: y", "data": base64.b64encode(b"<script>").decode()},
    ]
    ended = await turn(http, parts, model="demo")
    messages = (await http.get(f"/v1/conversations/{ended['conversation']}/messages")).json()["messages"]
    shown = messages[0]["parts"]
    assert "data" not in shown[1]
    assert shown[2]["data"]
    answer = await http.get(shown[1]["url"])
    assert (answer.status_code, answer.content) == (200, PNG)
    headers = answer.headers
    assert headers["content-type"] == "image/png"
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''a%22%C3%A9%0A.png"
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    assert "sandbox" in headers["content-security-policy"]
    address = shown[1]["url"].removesuffix("1")
    html = await http.get(f"{address}2")
    assert (html.headers["content-type"], html.content) == ("application/octet-stream", b"<script>")
    for other in (f"{address}0", f"{address}3", "/v1/messages/unknown/parts/0"):
        assert (await http.get(other)).status_code == 404
    for wrong in (f"{address}x", f"{address}-1", f"{address}1?x=1"):
        assert (await http.get(wrong)).status_code == 400
    again = await turn(http, None, messages=[{"role": "user", "parts": shown}])
    assert again["status"] == "completed", "a message can be sent back unchanged"


async def test_feedback_and_usage(http: httpx2.AsyncClient) -> None:
    """A valid rating of an existing message is accepted. Usage is summed for one conversation and since a given time."""
    ended = await turn(http, "Hi")
    answer = await http.post(f"/v1/messages/{ended['message']['id']}/feedback", json={"rating": "up"})
    assert (answer.status_code, answer.json()) == (200, {})
    assert (await http.post("/v1/messages/unknown/feedback", json={"rating": 5})).status_code == 404
    wrong = await http.post(f"/v1/messages/{ended['message']['id']}/feedback", json={"rating": 6})
    assert (wrong.status_code, wrong.json()["error"]["path"]) == (400, "rating")
    sums = (await http.get("/v1/usage", params={"conversation": ended["conversation"]})).json()
    assert sums["usage"] == ended["usage"]
    later = await http.get("/v1/usage", params={"since": "2999-01-01T00:00:00+02:00"})
    assert later.json()["usage"]["input_tokens"] == 0
    assert (await http.get("/v1/usage", params={"since": "now"})).status_code == 400
