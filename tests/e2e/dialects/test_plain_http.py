"""Plain HTTP against a gateway process, with curl: each address, and conversations from their start to their end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.http.operations import OPERATIONS
from tests.client import client
from tests.curl import Answer, curl, curl_stream
from tests.demo import expected
from tests.gateway_process import GatewayProcess, gateway_process
from tests.upstream import Upstream, chat

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

QUICK = {"rate": 0, "tokens": 12}
SLOW = {"rate": 20, "tokens": 5000}
CAMEL_TOKENS = {"promptTokens", "completionTokens", "totalTokens"}
TOKENS = {"prompt_tokens", "completion_tokens", "total_tokens"}


class Place:
    """A gateway, its upstream, and curl."""

    def __init__(self, gateway: GatewayProcess, upstream: Upstream) -> None:
        self.gateway = gateway
        self.upstream = upstream

    def url(self, path: str) -> str:
        return self.gateway.url + path

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        return await curl(method, self.url(path), body, **headers)

    async def ok(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        answer = await self.ask(method, path, body, **headers)
        assert answer.status in {200, 201}, answer
        return answer.json

    async def status(self, turn: str) -> str:
        return str((await self.ask("GET", f"/v1/turns/{turn}")).json.get("status"))

    async def until_status(self, turn: str, status: str) -> Any:
        async with asyncio.timeout(30):
            while await self.status(turn) != status:
                await asyncio.sleep(0.05)
        return await self.ok("GET", f"/v1/turns/{turn}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with Upstream() as upstream:
        settings = {
            "KIMI_API_KEY": "k",
            "KIMI_BASE_URL": upstream.openai_url,
            "TURNWIRE_DISCONNECT_GRACE_S": "0.1",
            "TURNWIRE_DRAIN_S": "0",
            "TURNWIRE_USER_REQUESTS_BURST": "1000",
        }
        async with gateway_process(tmp_path_factory.mktemp("gateway"), settings) as gateway:
            yield Place(gateway, upstream)


async def test_a_session(place: Place) -> None:
    """A message, another one in the same session, its history, an empty context, and its end."""
    first = await place.ok("POST", "/api/chat", {"message": "Hello", "sessionId": "s1", "demo": QUICK})
    assert first.keys() == {"message", "sessionId", "messageId", "model", "usage", "finishReason"}
    assert (first["message"], first["sessionId"]) == (expected("Hello", QUICK), "s1")
    assert (first["model"], first["finishReason"], first["usage"].keys()) == ("demo", "stop", CAMEL_TOKENS)
    assert first["usage"]["totalTokens"] == first["usage"]["promptTokens"] + first["usage"]["completionTokens"]

    body = {"message": "More", "sessionId": "s1", "maxTokens": 5, "temperature": 0.5, "model": "demo", "demo": QUICK}
    second = await place.ok("POST", "/api/chat", body)
    assert (second["finishReason"], second["usage"]["completionTokens"]) == ("length", 5)
    assert second["usage"]["promptTokens"] > first["usage"]["promptTokens"], "the model was given the history"

    history = await place.ok("GET", "/api/chat/history?sessionId=s1")
    assert (history["sessionId"], history["count"]) == ("s1", 4)
    assert [(one["role"], one["content"]) for one in history["messages"]] == [
        ("user", "Hello"),
        ("assistant", first["message"]),
        ("user", "More"),
        ("assistant", second["message"]),
    ]
    assert {frozenset(one) for one in history["messages"]} == {frozenset({"id", "role", "content", "createdAt"})}
    assert [one["id"] for one in history["messages"][1::2]] == [first["messageId"], second["messageId"]]
    assert await place.ok("GET", "/api/chat/sessions/s1/messages") == history["messages"]

    assert await place.ok("DELETE", "/api/chat/context?sessionId=s1") == {"success": True}
    assert (await place.ok("GET", "/api/chat/history?sessionId=s1"))["messages"] == []
    third = await place.ok("POST", "/api/chat", {"message": "Hello", "sessionId": "s1", "demo": QUICK})
    assert third["usage"] == first["usage"], "the model was given no history"
    assert (await place.ok("GET", "/api/chat/history?sessionId=s1"))["count"] == 2

    assert await place.ok("DELETE", "/api/chat/sessions/s1") == {"success": True}
    assert (await place.ask("GET", "/api/chat/sessions/s1/messages")).status == 404
    assert (await place.ask("DELETE", "/api/chat/sessions/s1")).status == 404
    assert await place.ok("GET", "/api/chat/history?sessionId=s1") == {"sessionId": "s1", "messages": [], "count": 0}
    assert await place.ok("DELETE", "/api/chat/context?sessionId=s1") == {"success": True}


async def test_sessions(place: Place) -> None:
    """A session is created with a title, renamed, and listed, also page by page."""
    made = await place.ok("POST", "/api/chat/sessions/one", {"title": "First"})
    assert (made.keys(), made["title"]) == ({"sessionId", "title", "createdAt", "updatedAt"}, "First")
    assert (await place.ok("POST", "/api/chat/sessions/one"))["title"] == "First"
    assert (await place.ok("POST", "/api/chat/sessions/one", {"title": "Renamed"}))["createdAt"] == made["createdAt"]
    begun = await place.ok("POST", "/api/chat", {"message": "No name", "demo": QUICK})
    page = await place.ask("GET", "/api/chat/sessions?limit=1")
    assert [one["sessionId"] for one in page.json] == [begun["sessionId"]]
    following = page.headers["link"].partition(">")[0].removeprefix("<")
    assert [one["title"] for one in await place.ok("GET", following)] == ["Renamed"]
    assert {"one", begun["sessionId"]} <= {one["sessionId"] for one in await place.ok("GET", "/api/chat/sessions")}


async def test_a_session_as_a_stream(place: Place) -> None:
    body = {"message": "Hello", "sessionId": "streamed", "demo": {**QUICK, "thinking": 3}}
    answer = await place.ask("POST", "/api/chat", body, accept="text/event-stream")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    *frames, last = answer.events
    assert {(tuple(frame), frame["finished"]) for frame in frames} == {(("content", "finished"), False)}
    assert "".join(frame["content"] for frame in frames) == expected("Hello", body["demo"])  # type: ignore[arg-type]
    assert (last["content"], last["finished"], last["sessionId"], last["finishReason"]) == (
        "",
        True,
        "streamed",
        "stop",
    )
    assert (last["messageId"], last["usage"].keys()) == (answer.headers["turnwire-turn"], CAMEL_TOKENS)
    failed = {"message": "Hello", "sessionId": "streamed", "demo": {**QUICK, "fail": "mid"}}
    last = (await place.ask("POST", "/api/chat", failed, accept="text/event-stream")).events[-1]
    assert (last["finished"], last["error"]["code"]) == (True, "upstream_error")


async def test_the_address_is_shared_with_the_ai_sdk(place: Place) -> None:
    """Messages with parts get its stream; so does any body with its header. Errors have the shape of the body's protocol."""
    parts = {"id": "ui", "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}]}
    answer = await place.ask("POST", "/api/chat", {**parts, "demo": QUICK})
    assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert answer.text.endswith("data: [DONE]\n\n")
    refused = await place.ask("POST", "/api/chat", {**parts, "id": "other", "model": "nobody"})
    assert refused.headers["content-type"].startswith("text/plain")
    with_header = await place.ask("POST", "/api/chat", {"message": "Hi"}, x_vercel_ai_ui_message_stream="v1")
    assert with_header.headers["content-type"].startswith("text/plain")
    plain = await place.ask("POST", "/api/chat", {"message": "Hi", "model": "nobody"})
    assert (plain.status, plain.json["error"]["code"]) == (404, "model_not_found")
    assert plain.headers["content-type"] == "application/json"
    assert (
        'turnwire_turns_started_total{dialect="plain_http",model="demo"}' in (await place.ask("GET", "/metrics")).text
    )


async def test_lines(place: Place) -> None:
    """The last line says that the answer is finished, or has an error. An error that is the only line also has a status."""
    body: dict[str, Any] = {
        "model": "demo",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Hello"},
        ],
        "temperature": 0.1,
        "maxTokens": 100,
        "demo": QUICK,
    }
    answer = await place.ask("POST", "/stream", body)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    *lines, last = answer.lines
    assert {(tuple(line), line["finished"]) for line in lines} == {(("content", "finished"), False)}
    assert "".join(line["content"] for line in lines) == expected("Hello", QUICK)
    assert (last["content"], last["finished"], last["finishReason"]) == ("", True, "stop")
    assert (await place.ok("GET", f"/v1/turns/{answer.headers['turnwire-turn']}"))["conversation"] is None
    failed = await place.ask("POST", "/stream", {**body, "demo": {**QUICK, "fail": "mid"}})
    assert (failed.status, failed.lines[-1]["finished"], failed.lines[-1]["error"]["code"]) == (
        200,
        True,
        "upstream_error",
    )
    for refused, status in (({"demo": {"fail": "auth"}}, 502), ({"model": "nobody"}, 404), ({"maxTokens": 0}, 400)):
        only = await place.ask("POST", "/stream", {**body, **refused})
        assert (only.status, [line["finished"] for line in only.lines]) == (status, [True])
        assert only.lines[0]["error"].get("path") in {None, "maxTokens"}


async def test_each_line_is_sent_at_once_and_a_disconnect_cancels(place: Place) -> None:
    """Nobody could come back to an answer without a session. That of a session continues."""
    body = {"messages": [{"role": "user", "content": "Hello"}], "demo": SLOW}
    async with curl_stream("POST", place.url("/stream"), body, turnwire_turn="lines") as lines:
        assert json.loads(await lines.readline())["content"]
        assert await place.status("lines") == "running"
    assert (await place.until_status("lines", "cancelled"))["message"]["by"] == "disconnect"
    body = {"message": "Hello", "sessionId": "left", "demo": SLOW}
    async with curl_stream(
        "POST", place.url("/api/chat"), body, turnwire_turn="kept", accept="text/event-stream"
    ) as lines:
        assert b'"finished":false' in await lines.readline()
    async with curl_stream("POST", place.url("/api/chat"), body, turnwire_turn="queued"):
        await place.until_status("queued", "queued")
    assert [await place.status(turn) for turn in ("kept", "queued")] == ["running", "queued"]
    for turn in ("kept", "queued"):
        await place.ok("POST", f"/v1/turns/{turn}/cancel", {})


async def test_a_message_that_is_answered_later(place: Place) -> None:
    """The answer arrives on a socket that follows the conversation, at the address in `Link`, and in the history."""
    await place.ok("POST", "/api/chat/sessions/later", {})
    async with client(place.gateway.ws_url) as socket:
        await socket.request("conversation.attach", conversation="later")
        body = {"session_id": "later", "message": "Hello", "user_id": "local", "demo": {"rate": 100, "tokens": 40}}
        sent = await place.ask("POST", "/chat", body)
        turn = sent.headers["turnwire-turn"]
        assert sent.json == {"status": "streaming", "message_id": turn, "session_id": "later"}
        during = await place.ok("GET", "/history/later")
        assert [one["content"] for one in during["messages"]][:1] == ["Hello"]
        events = await place.ask("GET", sent.headers["link"].partition(">")[0].removeprefix("<"))
        text = "".join(event["text"] for event in events.events if event["type"] == "turn.delta")
        await socket.ending(turn)
        assert socket.turns[turn].text() == text == expected("Hello", body["demo"])  # type: ignore[arg-type]
    assert sent.headers["link"] == f'</v1/turns/{turn}/events>; rel="related"; type="text/event-stream"'
    history = await place.ok("GET", "/history/later")
    assert (history["session_id"], history["count"]) == ("later", 2)
    assert [tuple(one) for one in history["messages"]] == [("id", "role", "content", "created_at")] * 2
    assert (history["messages"][1]["id"], history["messages"][1]["content"]) == (turn, text)
    deleted = await place.ok("DELETE", "/history/later")
    assert (deleted.keys(), deleted["status"]) == ({"status", "message"}, "success")
    assert await place.ok("GET", "/history/later") == {"session_id": "later", "messages": [], "count": 0}
    assert (await place.ok("DELETE", "/history/later"))["status"] == "success"


async def test_messages_of_one_session_are_answered_one_after_the_other(place: Place) -> None:
    bodies = [{"session_id": "many", "message": f"Number {n}", "demo": {**QUICK, "first_ms": 50}} for n in range(3)]
    await asyncio.gather(*(place.ok("POST", "/chat", body) for body in bodies))
    last = await place.ok("POST", "/api/chat", {"sessionId": "many", "message": "Last", "demo": QUICK})
    history = await place.ok("GET", "/history/many")
    assert [one["role"] for one in history["messages"]] == ["user", "assistant"] * 4
    assert {one["content"] for one in history["messages"][::2]} == {"Number 0", "Number 1", "Number 2", "Last"}
    assert history["messages"][-1]["id"] == last["messageId"]


async def test_a_repeated_request_is_answered_once(place: Place) -> None:
    """Law 6, with the header that HTTP has for it."""
    body = {"message": "Hello", "sessionId": "once", "demo": QUICK}
    answers = await asyncio.gather(*(place.ok("POST", "/api/chat", body, idempotency_key="key-1") for _ in range(2)))
    assert answers[0] == answers[1]
    assert answers[0]["messageId"] == "key-1"
    assert (await place.ok("GET", "/api/chat/history?sessionId=once"))["count"] == 2
    other = await place.ask("POST", "/api/chat", {**body, "message": "Bye"}, idempotency_key="key-1")
    assert (other.status, other.json["error"]["code"]) == (409, "conflict")


async def test_a_conversation_with_its_costs_and_feedback(place: Place) -> None:
    made = await place.ask("POST", "/api/v1/conversations", {"title": "Costs", "system_prompt": "Be brief."})
    conversation = made.json["id"]
    assert (made.status, made.headers["location"]) == (201, f"/api/v1/conversations/{conversation}")
    base = f"/api/v1/conversations/{conversation}"
    place.upstream.play(chat("It ", "is 3.", usage={"prompt_tokens": 1000, "completion_tokens": 300}))
    answer = await place.ok("POST", f"{base}/messages", {"content": "Add 1 and 2", "model": "kimi-k2.6"})
    message = answer["message"]
    assert answer.keys() == {"message", "conversation_id", "usage", "cost_usd"}
    assert (message["content"], message["role"], message["provider"]) == ("It is 3.", "assistant", "kimi")
    assert (message["conversation_id"], message["model"]) == (conversation, "kimi-k2.6")
    assert (message["prompt_tokens"], message["completion_tokens"], message["total_tokens"]) == (1000, 300, 1300)
    assert message["cost_usd"] == answer["cost_usd"] == pytest.approx(1000 * 0.95e-6 + 300 * 4e-6)
    assert message["latency_ms"] >= 0
    assert message["created_at"].endswith("Z")
    assert answer["usage"] == {"prompt_tokens": 1000, "completion_tokens": 300, "total_tokens": 1300}

    place.upstream.play(chat("And 4.", usage={"prompt_tokens": 2000, "completion_tokens": 100}))
    second = await place.ok("POST", f"{base}/messages", {"content": "More", "model": "kimi-k2.6"})
    sent = place.upstream.requests[-1].body["messages"]
    assert [one["content"] for one in sent] == ["Be brief.", "Add 1 and 2", "It is 3.", "More"]
    shown = await place.ok("GET", base)
    assert (shown["title"], shown["system_prompt"], shown["message_count"]) == ("Costs", "Be brief.", 4)
    assert shown["cost_usd"] == pytest.approx(answer["cost_usd"] + second["cost_usd"])
    assert shown["usage"] == {"prompt_tokens": 3000, "completion_tokens": 400, "total_tokens": 3400}
    assert [one["content"] for one in shown["messages"]] == ["Add 1 and 2", "It is 3.", "More", "And 4."]

    rating = {"message_id": message["id"], "rating": "up", "comment": "Right."}
    assert (await place.ok("POST", f"{base}/feedback", rating))["status"] == "success"
    assert (await place.ok("POST", f"{base}/feedback", {"rating": 2}))["status"] == "success"
    unknown = await place.ask("POST", f"{base}/feedback", {"message_id": "nothing", "rating": "up"})
    assert (unknown.status, unknown.json["error"]["code"]) == (404, "not_found")
    listed = await place.ok("GET", f"{base}/messages")
    assert (listed["conversation_id"], listed["count"]) == (conversation, 4)
    assert [(one["rating"], one["comment"]) for one in listed["messages"]][1::2] == [("up", "Right."), (2, None)]

    assert (await place.ok("PATCH", base, {"title": "Paid"}))["title"] == "Paid"
    page = await place.ok("GET", "/api/v1/conversations?limit=1")
    assert (page["conversations"][0]["title"], page["count"], page["next"]) == ("Paid", 1, conversation)
    assert (await place.ok("DELETE", base))["status"] == "success"
    for method, path, body in (
        ("GET", base, None),
        ("DELETE", base, None),
        ("PATCH", base, {"title": "x"}),
        ("POST", f"{base}/messages", {"content": "x"}),
        ("GET", f"{base}/messages", None),
        ("GET", f"{base}/stream", None),
        ("POST", f"{base}/feedback", {"rating": "up"}),
    ):
        assert (await place.ask(method, path, body)).status == 404, (method, path)


async def test_what_runs_in_a_conversation(place: Place) -> None:
    """A stream of what runs continues after the last event that the client has; 204 says that nothing does."""
    demo = {"rate": 60, "tokens": 240}
    await place.ok("POST", "/api/v1/conversations", {"id": "followed"})
    path = "/api/v1/conversations/followed/stream"
    assert (await place.ask("GET", path)).status == 204
    sent = await place.ok("POST", "/chat", {"session_id": "followed", "message": "Hello", "demo": demo})
    seen, last = "", ""
    async with curl_stream("GET", place.url(path)) as lines:
        while len(seen) < 20:
            line = (await lines.readline()).decode()
            assert line, "the stream ended early"
            last = line.removeprefix("id: ").strip() if line.startswith("id: ") else last
            if line.startswith("data: "):
                seen += json.loads(line.removeprefix("data: "))["content"]
    rest = await place.ask("GET", path, last_event_id=last)
    assert seen + "".join(event["content"] for event in rest.events) == expected("Hello", demo)
    end = rest.events[-1]
    assert (end["finished"], end["message_id"], end["conversation_id"]) == (True, sent["message_id"], "followed")
    assert (end["usage"].keys(), end["finish_reason"]) == (TOKENS, "stop")
    newest = [line for line in rest.text.splitlines() if line.startswith("id: ")][-1].removeprefix("id: ")
    assert (await place.ask("GET", path, last_event_id=newest)).status == 204
    again = await place.ask("GET", path, last_event_id=last)
    assert again.events[-1] == end, "a client that lost its connection before the ending still gets it"


async def test_the_service(place: Place) -> None:
    """Health, the models, the information about the service, and the documents."""
    assert (await place.ok("GET", "/api/health")) == (await place.ok("GET", "/health"))
    assert (await place.ok("GET", "/api/models")) == (await place.ok("GET", "/v1/models"))
    about = await place.ok("GET", "/", accept="application/json")
    addresses = {(one["method"], one["path"]) for one in about["addresses"]}
    assert addresses == {(operation.method, operation.path) for operation in OPERATIONS}
    assert ("POST", "/api/v1/conversations/{conversation}/messages") in addresses
    redirect = await place.ask("GET", "/redoc")
    assert (redirect.status, redirect.headers["location"]) == (308, "docs")
    page = await place.ask("GET", "/", accept="text/html")
    assert page.headers["content-type"].startswith("text/html")
    assert (await place.ask("GET", "/static/chat/page.js")).status == 200, "no address hides the page's"


WRONG: dict[str, tuple[str, str, object, int, str | None]] = {
    "no message": ("POST", "/api/chat", {"sessionId": "s"}, 400, "message"),
    "an empty message": ("POST", "/api/chat", {"message": ""}, 400, "message"),
    "a number": ("POST", "/api/chat", {"message": 5}, 400, "message"),
    "no JSON": ("POST", "/api/chat", "hello", 400, None),
    "a session's id with a slash": ("POST", "/api/chat", {"message": "x", "sessionId": "a/b"}, 400, "sessionId"),
    "a long id": ("POST", "/chat", {"message": "x", "session_id": "a" * 65}, 400, "session_id"),
    "an id that no path can have": ("POST", "/chat", {"message": "x", "session_id": ".."}, 400, "session_id"),
    "too hot": ("POST", "/api/chat", {"message": "x", "temperature": 9}, 400, "temperature"),
    "no tokens": ("POST", "/api/chat", {"message": "x", "maxTokens": 0}, 400, "maxTokens"),
    "no session": ("GET", "/api/chat/history", None, 400, "sessionId"),
    "an unknown query": ("GET", "/api/chat/sessions?page=2", None, 400, "page"),
    "an unknown path": ("GET", "/api/chat/sessions/s/nothing", None, 404, None),
    "a wrong method": ("PATCH", "/api/chat/context", {}, 405, None),
    "a half character": ("POST", "/chat", '{"message": "\\ud800"}', 400, None),
    "a title that is too long": ("POST", "/api/chat/sessions/s", {"title": "x" * 301}, 400, "title"),
    "a rating that is none": ("POST", "/api/v1/conversations/c/feedback", {"rating": 9}, 400, "rating"),
    "a strange user": ("POST", "/chat", {"message": "x", "user_id": "service:x"}, 400, "user_id"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_errors_have_one_shape(place: Place, name: str) -> None:
    method, path, body, status, field = WRONG[name]
    answer = await place.ask(method, path, body)
    error = answer.json["error"]
    assert (answer.status, error.get("path")) == (status, field)
    assert {"code", "message", "retryable"} <= error.keys() <= {"code", "message", "retryable", "path"}
    assert answer.headers["content-type"] == "application/json"
