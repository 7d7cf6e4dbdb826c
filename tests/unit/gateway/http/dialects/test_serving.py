"""Tests of how the requests of dialects are served: credentials, labels, beginnings of streams, resumes, models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.protocol.errors import CloseCode
from tests.credentials import KeyFile, bearer
from tests.http_events import http_client
from tests.in_loop_server import InLoopServer, serving
from tests.in_process import eventually
from tests.metrics import value

CHAT = "/v1/chat/completions"
QUICK: dict[str, Any] = {"rate": 0, "text": "Hello, how are you?"}


@pytest.fixture
async def server() -> AsyncIterator[InLoopServer]:
    async with serving(disconnect_grace_s=0.1, heartbeat_s=0.2) as running:
        yield running


@pytest.fixture
async def http(server: InLoopServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(server.url) as http:
        yield http


def body(stream: bool = True, **demo: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi"}], "stream": stream, "demo": demo}


def text_of(stream: str) -> str:
    """Return the text in the chunks of a stream."""
    chunks = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


async def test_either_header_carries_the_credential(tmp_path: Path) -> None:
    """An invalid `Authorization` isn't replaced by the other header."""
    file = KeyFile(tmp_path)
    key = file.add(user="ann")
    async with serving(auth="keys", api_keys=str(file.path)) as server, http_client(server.url) as http:
        for headers in (bearer(key), {"x-api-key": key}):
            assert (await http.post(CHAT, json=body(**QUICK), headers=headers)).status_code == 200
        for headers in ({}, {"x-api-key": "tw_no"}, {"x-api-key": key, "authorization": "Bearer tw_no"}):
            refused = await http.post(CHAT, json=body(**QUICK), headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            assert refused.headers["www-authenticate"] == "Bearer"


async def test_a_service_names_its_user(tmp_path: Path) -> None:
    """The turn belongs to the user. The headers of dialects have no effect at our own addresses."""
    file = KeyFile(tmp_path)
    service, key = file.add_service(), file.add(user="ann")
    async with serving(auth="keys", api_keys=str(file.path)) as server, http_client(server.url) as http:
        headers = {**bearer(service), "x-openwebui-user-id": "ann", "turnwire-turn": "t"}
        assert (await http.post(CHAT, json=body(**QUICK), headers=headers)).status_code == 200
        assert (await http.get("/v1/turns/t", headers=bearer(key))).status_code == 200
        assert (await http.get("/v1/turns/t", headers=headers)).status_code == 404


async def test_the_dialect_is_a_label(server: InLoopServer, http: httpx2.AsyncClient) -> None:
    await http.post(CHAT, json=body(**QUICK))
    await http.post(CHAT, json={"messages": "x"})
    await http.post("/v1/turns", json={"input": "Hi", "params": {"demo": QUICK}})
    text = (await http.get("/metrics")).text
    assert value(text, "turnwire_turns_started_total", dialect="chat_completions") == 1
    assert value(text, "turnwire_turns_started_total", dialect="turnwire") == 1
    assert value(text, "turnwire_refusals_total", dialect="chat_completions") == 1


async def test_a_repeated_request_joins_the_turn(http: httpx2.AsyncClient) -> None:
    """Law 6: other content with the same id is refused in the dialect's shape."""
    headers = {"idempotency-key": "one"}
    answers = [await http.post(CHAT, json=body(stream, **QUICK), headers=headers) for stream in (True, False, True)]
    assert [answer.headers["turnwire-turn"] for answer in answers] == ["one"] * 3
    assert text_of(answers[0].text) == text_of(answers[2].text) == QUICK["text"]
    other = await http.post(CHAT, json=body(**QUICK, tokens=3), headers=headers)
    assert (other.status_code, other.headers["x-should-retry"]) == (409, "false")
    assert other.json()["error"]["code"] == "conflict"


async def test_a_stream_begins_with_its_first_bytes(http: httpx2.AsyncClient) -> None:
    """A failure before them is an HTTP error, and one after them is inside the stream. Silence is filled."""
    early = await http.post(CHAT, json=body(fail="auth", rate=0))
    assert (early.status_code, early.json()["error"]["code"]) == (502, "upstream_auth")
    late = await http.post(CHAT, json=body(fail="cut", fail_after=3, rate=0, tokens=20))
    assert late.status_code == 200
    *_, error, done = [line for line in late.text.splitlines() if line]
    assert (json.loads(error[6:])["error"]["type"], done) == ("server_error", "data: [DONE]")
    silent = await http.post(CHAT, json=body(first_ms=700, **QUICK))
    assert ": heartbeat\n\n" in silent.text
    assert text_of(silent.text) == QUICK["text"]


async def test_a_drain_ends_a_stream_with_an_error(server: InLoopServer, http: httpx2.AsyncClient) -> None:
    """The SDKs would take a stream that just ends for a whole answer."""
    async with http.stream("POST", CHAT, json=body(rate=20, tokens=2000)) as answer:
        lines = answer.aiter_lines()
        assert (await anext(lines)).startswith("data: ")
        draining = asyncio.ensure_future(server.gateway.drain())
        rest = [line async for line in lines if line]
        await draining
    assert json.loads(rest[-2][6:])["error"]["code"] == "shutting_down"


async def test_a_session_that_stops_ends_its_stream_with_an_error(
    server: InLoopServer, http: httpx2.AsyncClient
) -> None:
    """The turn continues elsewhere, which this client can't know."""
    clients = server.gateway.services.clients
    async with http.stream("POST", CHAT, json=body(rate=20, tokens=2000)) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        clients.all()[0].close_when_drained(CloseCode.DRAINING, "")
        rest = [line async for line in lines if line]
    assert (json.loads(rest[-2][6:])["error"]["code"], rest[-1]) == ("shutting_down", "data: [DONE]")


async def test_a_session_that_stops_before_its_first_bytes_is_an_http_error() -> None:
    async with serving() as server, http_client(server.url) as http:
        clients = server.gateway.services.clients
        silent = asyncio.ensure_future(http.post(CHAT, json=body(first_ms=10_000)))
        await eventually(lambda: bool(clients.all()))
        clients.all()[0].close_when_drained(CloseCode.DRAINING, "")
        refused = await silent
    assert (refused.status_code, refused.headers["x-should-retry"]) == (503, "true")
    assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("1", "1000")


async def test_a_slow_client_is_dropped() -> None:
    """Law 11: the outbox counts the events of a dialect's stream, too."""
    async with serving(outbox_bytes=65536, close_timeout_s=0.5) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        content = json.dumps(body(rate=0, tokens=400_000)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        await reader.readline()
        clients = server.gateway.services.telemetry.slow_clients
        async with asyncio.timeout(20):
            while clients.labels("http")._value.get() == 0:
                await asyncio.sleep(0.05)
        writer.close()


@pytest.mark.parametrize("name", ["conv", "a name with spaces"])
async def test_a_conversation_is_kept_and_its_stream_resumed(http: httpx2.AsyncClient, name: str) -> None:
    """Law 7, for every event: what follows a position is exactly the rest. Law 4: the turn outlives its client."""
    headers = {"x-conversation-id": name}
    script: dict[str, Any] = {
        "rate": 200,
        "thinking": 2,
        "text": "Hello, how are you?",
        "tool": {"name": "add", "arguments": '{"a": 1}'},
    }
    async with http.stream("POST", CHAT, json=body(**script), headers=headers) as answer:
        await anext(answer.aiter_lines())
        turn = answer.headers["turnwire-turn"]
    while (await http.get(f"/v1/turns/{turn}")).json()["status"] == "running":
        await asyncio.sleep(0.05)
    whole = (await http.get(f"/v1/stream/{turn}")).text
    assert text_of(whole) == script["text"]
    events = [event + "\n\n" for event in whole.split("\n\n") if event]
    for n, event in enumerate(events):
        for line in event.splitlines():
            if line.startswith("id: "):
                rest = await http.get(f"/v1/stream/{name}", params={"from": line[4:]})
                again = await http.get(f"/openai/v1/stream/{turn}", headers={"last-event-id": line[4:]})
                expected = "".join(events[n + 1 :])
                assert rest.status_code == again.status_code == (200 if expected else 204)
                assert without_time(rest.text) == without_time(again.text) == without_time(expected)
    wrong = await http.get(f"/v1/stream/{turn}?from=x")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "from")
    assert (await http.get(f"/v1/stream/{turn}?x=1")).status_code == 400
    assert (await http.delete(f"/v1/stream/{name}")).json() == {"id": turn, "status": "already_ended"}


def without_time(text: str) -> str:
    """Return the stream with the time of its chunks left out, which is that of the first byte or of the acceptance."""
    return "\n".join(line.partition('"created":')[0] + line.partition(',"model"')[2] for line in text.splitlines())


async def test_the_history_of_a_conversation(http: httpx2.AsyncClient) -> None:
    """The input is what follows the last answer; what the client repeats of the history is left out."""
    headers = {"x-conversation-id": "c"}
    first = {"role": "user", "content": "One"}
    await http.post(CHAT, json={"messages": [first], "demo": QUICK}, headers=headers)
    messages = [
        {"role": "system", "content": "Be brief."},
        first,
        {"role": "assistant", "content": "Edited"},
        {"role": "user", "content": "Two"},
    ]
    await http.post(CHAT, json={"messages": messages, "demo": QUICK}, headers=headers)
    page = (await http.get("/v1/conversations/c/messages")).json()["messages"]
    assert [message["parts"][0]["text"] for message in page] == ["One", QUICK["text"], "Two", QUICK["text"]]
    refused = await http.post(CHAT, json={"messages": messages[:3]}, headers=headers)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages")


async def test_an_empty_name_of_a_conversation_is_none(http: httpx2.AsyncClient) -> None:
    """Or else all requests of a client that has no name yet would share one history."""
    await http.post(CHAT, json=body(**QUICK), headers={"x-conversation-id": ""})
    messages = {"model": "demo", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}], "demo": QUICK}
    await http.post("/v1/messages", json=messages, headers={"x-conversation-id": ""})
    assert (await http.get("/v1/conversations")).json()["conversations"] == []
    made = (await http.post("/v1/responses", json={"input": "Hi", "conversation": "", "demo": QUICK})).json()
    assert made["conversation"] is None
    more = {"input": "Hi", "conversation": {"id": ""}, "previous_response_id": made["id"], "demo": QUICK}
    assert (await http.post("/v1/responses", json=more)).status_code == 200


async def test_a_stream_that_does_not_exist(http: httpx2.AsyncClient) -> None:
    for method in ("GET", "DELETE"):
        error = (await http.request(method, "/v1/stream/nothing")).json()["error"]
        assert (error["param"], error["code"]) == ("stream", "not_found")
        assert "Stream nothing not found" in error["message"]


@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/messages", "/v1/turns", "/v1/conversations"])
async def test_an_error_of_a_body_does_not_speak_of_frames(http: httpx2.AsyncClient, path: str) -> None:
    for sent in ("{", '{"metadata":' + '{"a":' * 40 + "1" + "}" * 41):
        refused = await http.post(path, content=sent, headers={"content-type": "application/json"})
        message = refused.json()["error"]["message"]
        assert refused.status_code == 400
        assert "frame" not in message


async def test_a_running_stream_is_stopped(http: httpx2.AsyncClient) -> None:
    """The stream that runs ends normally, and the turn is cancelled."""
    headers = {"x-conversation-id": "c"}
    async with http.stream("POST", CHAT, json=body(rate=50, tokens=5000), headers=headers) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        stopped = (await http.delete("/v1/stream/c")).json()
        rest = [line async for line in lines if line.startswith("data: ")]
    assert stopped["status"] == "cancelled"
    assert json.loads(rest[-2][6:])["choices"][0]["finish_reason"] == "stop"
    assert (await http.get(f"/v1/turns/{stopped['id']}")).json()["status"] == "cancelled"


async def test_models(http: httpx2.AsyncClient) -> None:
    """One body for our clients and for those of OpenAI. Only models that can be used are in `data`."""
    own = (await http.get("/v1/models")).json()
    assert (await http.get("/openai/v1/models")).json() == own
    assert own["data"] == [{"id": "demo", "owned_by": "demo", "name": "Demo", "created": 0, "object": "model"}]
    assert len(own["models"]) > 10
    for base in ("/v1", "/openai/v1"):
        assert (await http.get(f"{base}/models/demo")).json() == own["data"][0]
        unknown = await http.get(f"{base}/models/no/such/model")
        assert unknown.status_code in {404, 502}
        assert unknown.json()["error"]["code"] in {"model_not_found", "upstream_auth"}


@pytest.mark.parametrize("prefix", ["", "/chat"])
async def test_refusals_before_the_address_is_served_have_the_dialects_shape(prefix: str) -> None:
    """A foreign `Host`, an unknown path and a wrong method. Clients of Anthropic are known by their header everywhere."""
    anthropic = {"anthropic-version": "2023-06-01"}
    async with serving(path_prefix=prefix) as server, http_client(server.url) as http:
        for method, path, headers, status in (
            ("POST", "/v1/chat/completions", {"host": "evil.example"}, 403),
            ("GET", "/v1/responses/x/nothing", {}, 404),
            ("POST", "/v1/messages", {"host": "evil.example"}, 403),
            ("GET", "/v1/files", anthropic, 404),
            ("DELETE", "/v1/models", anthropic, 405),
            ("GET", "/v1/models", {**anthropic, "host": "evil.example"}, 403),
            ("GET", "/v1/files", {}, 404),
        ):
            answer = await http.request(method, prefix + path, headers=headers)
            assert answer.status_code == status, path
            error, is_anthropic = answer.json()["error"], answer.json().get("type") == "error"
            is_own = path == "/v1/files" and not headers
            assert is_anthropic == ("messages" in path or "anthropic-version" in headers), path
            assert ("x-should-retry" in answer.headers, "retryable" in error) == (not is_own, is_own), path
            assert error["message"]
        refused = await http.post(f"{prefix}/api/chat", headers={"host": "evil.example"})
        assert refused.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["/v1/stream/c", "/api/chat/c/stream", "/api/v1/conversations/c/stream"])
async def test_the_head_of_a_stream_can_be_asked_for(http: httpx2.AsyncClient, path: str) -> None:
    sent = {"message": "Hi", "session_id": "c", "demo": {"rate": 5, "tokens": 500}}
    assert (await http.post("/chat", json=sent)).status_code == 200
    head = await http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")
