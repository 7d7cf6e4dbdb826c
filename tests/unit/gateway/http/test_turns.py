"""Tests of turns over HTTP against a real server in this event loop: streams, waits, resumes, cancels and refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.client import RequestFailed, TurnView, client
from tests.demo import expected
from tests.http_events import NDJSON, SSE, followed, http_client, started
from tests.in_loop_server import InLoopServer, serving
from tests.in_process import SLOW, eventually

ASYNC = {"prefer": "respond-async"}
QUICK = {"rate": 0, "text": "Hello, how are you?"}
both = pytest.mark.parametrize("accept", [SSE, NDJSON])


@pytest.fixture
async def server() -> AsyncIterator[InLoopServer]:
    async with serving(disconnect_grace_s=0.2) as running:
        yield running


@pytest.fixture
async def http(server: InLoopServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(server.url) as http:
        yield http


def attached(server: InLoopServer, turn: str) -> bool:
    stream = server.gateway.services.registry.get("local", turn)
    return stream is not None and stream.is_attached


@both
async def test_a_turn_is_streamed_from_its_start_to_its_ending(http: httpx2.AsyncClient, accept: str) -> None:
    """Laws 1 and 2: after the ending the response ends. No proxy caches or delays it."""
    async with started(http, accept=accept, turn="t", input="Hi", params={"demo": QUICK}) as events:
        headers = events.response.headers
        assert (headers["content-type"], headers["cache-control"]) == (accept, "no-store")
        assert (headers["x-accel-buffering"], headers["location"]) == ("no", "/v1/turns/t")
        assert (await events.ending())["type"] == "turn.completed"
        assert events.view.text() == QUICK["text"]
        assert await events.next() is None


async def test_concurrent_large_bodies_are_limited() -> None:
    """Over the limit, the status is 429.

    A small body is still accepted. The memory of a large body is released after it was read, refused or aborted.
    """
    async with serving(body_bytes=1_000_000, bodies_bytes=1_000_000) as server, http_client(server.url) as http:
        body_memory = server.gateway.services.limits.bodies
        large = b'{"input":"Hi","params":{"demo":{"text":"Yes."}}%b}' % (b" " * 900_000)
        released = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield large[:-1]
            await released.wait()
            yield large[-1:]

        async def post(content: Any) -> httpx2.Response:
            return await http.post("/v1/turns", content=content, headers={"content-type": "application/json"})

        first = asyncio.get_running_loop().create_task(post(slowly()))
        await eventually(lambda: body_memory.free_bytes < 200_000)
        refused = await post(large)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["error"]["code"] == "rate_limited"
        assert (await post(b'{"input":"Hi","params":{"demo":{"text":"Yes."}}}')).status_code == 200
        released.set()
        assert (await first).status_code == 200
        assert (await post(large)).status_code == 200
        assert (await post(b'{"x":"%b"}' % (b" " * 900_000))).status_code == 400
        released.clear()
        gone = asyncio.get_running_loop().create_task(post(slowly()))
        await eventually(lambda: body_memory.free_bytes < 200_000)
        gone.cancel()
        await eventually(lambda: body_memory.free_bytes == 1_000_000)


async def test_json_waits_for_the_ending(http: httpx2.AsyncClient) -> None:
    """The response is the result of `turn.get`, with message and usage. A repeated start has the same response."""
    answer = await http.post("/v1/turns", json={"turn": "t", "input": "Hi", "params": {"demo": QUICK}})
    assert (answer.status_code, answer.headers["location"]) == (200, "/v1/turns/t")
    view = answer.json()
    assert (view["status"], view["message"]["parts"]) == ("completed", [{"kind": "text", "text": QUICK["text"]}])
    assert view["usage"]["output_tokens"] > 0
    assert (await http.get("/v1/turns/t")).json() == view
    again = await http.post("/v1/turns", json={"turn": "t", "input": "Hi", "params": {"demo": QUICK}})
    assert again.json() == view, "law 6"


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter", "refusal"])
async def test_a_waiting_client_sees_how_the_answer_ended(http: httpx2.AsyncClient, reason: str) -> None:
    """The finish reason and the timing of the ending are in the response, in `turn.get` and in the stored message.

    The stored message also names the provider that was asked.
    """
    demo = QUICK if reason == "stop" else {**QUICK, "fail": reason}
    view = (await http.post("/v1/turns", json={"turn": "t", "input": "Hi", "params": {"demo": demo}})).json()
    assert (view["status"], view["finish_reason"]) == ("completed", reason)
    assert view["timing"].keys() == {"queued_ms", "ttft_ms", "total_ms", "attempts"}
    assert (await http.get("/v1/turns/t")).json() == view
    async with followed(http, "t") as events:
        assert (await events.ending())["timing"] == view["timing"]
    page = (await http.get(f"/v1/conversations/{view['conversation']}/messages")).json()
    message = page["messages"][-1]
    assert message == view["message"]
    assert (message["finish_reason"], message["timing"], message["provider"]) == (reason, view["timing"], "demo")
    assert not {"finish_reason", "timing", "provider"} & page["messages"][0].keys(), "only an answer has them"


@pytest.mark.parametrize(
    "fields", [{"input": "Hi"}, {"messages": [{"role": "user", "parts": [{"kind": "text", "text": "Hi"}]}]}]
)
async def test_only_a_completed_turn_has_a_finish_reason(http: httpx2.AsyncClient, fields: dict[str, Any]) -> None:
    """A failed and a cancelled turn have a timing and a provider, with and without a conversation."""
    demo = {**QUICK, "fail": "mid"}
    failed = (await http.post("/v1/turns", json={**fields, "params": {"demo": demo}})).json()
    await http.post(
        "/v1/turns", json={**fields, "turn": "t", "params": {"demo": SLOW}}, headers={"prefer": "respond-async"}
    )
    running = (await http.get("/v1/turns/t")).json()
    assert not {"finish_reason", "timing"} & running.keys()
    await http.post("/v1/turns/t/cancel")
    cancelled = (await http.get("/v1/turns/t")).json()
    for view, status in ((failed, "failed"), (cancelled, "cancelled")):
        assert (view["status"], view["message"]["provider"]) == (status, "demo")
        assert view["timing"] == view["message"]["timing"]
        assert "finish_reason" not in view
        assert "finish_reason" not in view["message"]


async def test_a_failed_turn_has_the_status_of_its_error(http: httpx2.AsyncClient) -> None:
    """The body has the turn's status and its error."""
    demo = {**QUICK, "fail": "overloaded"}
    answer = await http.post("/v1/turns", json={"input": "Hi", "params": {"demo": demo}})
    assert answer.status_code == 503
    assert (answer.json()["status"], answer.json()["error"]["code"]) == ("failed", "upstream_overloaded")


async def test_a_wait_has_no_outbox_limit(http: httpx2.AsyncClient, server: InLoopServer) -> None:
    """An answer larger than the outbox is waited for, although its events aren't read."""
    demo = {"text": "word" * 250 + " ", "tokens": 300, "rate": 0}
    answer = await http.post("/v1/turns", json={"input": "x", "params": {"demo": demo}, "on_disconnect": "cancel"})
    assert answer.status_code == 200
    assert len(answer.json()["message"]["parts"][0]["text"]) > server.gateway.settings.outbox_bytes


async def test_respond_async_returns_202(http: httpx2.AsyncClient, server: InLoopServer) -> None:
    """The body is the result of `turn.start`, and `Location` is the URL of the turn.

    The client attaches over the socket.
    """
    body = {"turn": "t", "input": "Hi", "params": {"demo": {"rate": 100, "tokens": 30}}}
    answer = await http.post("/v1/turns", json=body, headers={"prefer": "respond-async"})
    assert (answer.status_code, answer.headers["location"]) == (202, "/v1/turns/t")
    assert answer.headers["preference-applied"] == "respond-async"
    result = answer.json()
    assert result["status"] == "running"
    async with client(server.ws_url) as c:
        await c.request("turn.attach", turn="t")
        assert (await c.ending("t"))["type"] == "turn.completed"
        assert c.turns["t"].epoch == result["epoch"]


@both
async def test_a_stream_is_resumed_at_every_event(http: httpx2.AsyncClient, accept: str) -> None:
    """Law 7: after a resume with `Last-Event-ID` at any event, each event arrives once.

    After the ending, the status is 204.
    """
    demo = {"rate": 0, "tokens": 20, "thinking": 3}
    view = TurnView()
    async with started(http, accept=accept, turn="t", input="Hi", params={"demo": demo}) as events:
        events.view = view
        await events.until_seq(1)
    while view.ended is None:
        async with followed(http, "t", view, accept=accept) as events:
            assert await events.next() is not None
    assert view.text() == expected("Hi", demo)
    assert view.resets == 0
    async with followed(http, "t", view, accept=accept) as events:
        assert events.response.status_code == 204


async def test_an_unknown_position_restarts_the_stream(http: httpx2.AsyncClient) -> None:
    """Law 7: the stream begins with a reset, and then has all events without a gap."""
    async with started(http, turn="t", input="Hi", params={"demo": QUICK}) as events:
        await events.ending()
    view = TurnView()
    view.epoch, view.seq = 5, 3
    async with followed(http, "t", view) as events:
        await events.ending()
        assert events.frames[0]["type"] == "turn.reset"
        assert events.ids[0].endswith("-0")
    assert view.text() == QUICK["text"]


async def test_a_stream_that_is_unavailable_has_an_error(http: httpx2.AsyncClient, server: InLoopServer) -> None:
    """An unknown turn is 404, an invalid `Last-Event-ID` 400, and an unacceptable media type 406.

    Expired events are 410 with the message's id. A repeated start that asks for a stream is then 410 too;
    one that waits for the ending still gets the turn's outcome.
    """
    assert (await http.get("/v1/turns/unknown/events")).status_code == 404
    assert (await http.get("/v1/turns/t/events", headers={"last-event-id": "x"})).status_code == 400
    assert (await http.get("/v1/turns/t/events", headers={"accept": "application/json"})).status_code == 406
    body = {"turn": "t", "input": "Hi", "params": {"demo": QUICK}}
    ended = (await http.post("/v1/turns", json=body)).json()
    services = server.gateway.services
    services.registry.drop_ended("local", ended["conversation"])
    services.store._log._ttl_ms = 0  # type: ignore[attr-defined]
    gone = await http.get("/v1/turns/t/events")
    assert (gone.status_code, gone.json()["error"]["stored_message"]) == (410, ended["message"]["id"])
    restarted = await http.post("/v1/turns", json=body, headers={"accept": SSE})
    assert (restarted.status_code, restarted.json()["error"]["code"]) == (410, "gone")
    assert (await http.post("/v1/turns", json=body)).json() == ended


async def test_a_head_request_is_not_streamed(http: httpx2.AsyncClient) -> None:
    """HEAD returns the headers of the stream and ends."""
    await http.post("/v1/turns", json={"turn": "t", "input": "Hi", "params": {"demo": SLOW}}, headers=ASYNC)
    answer = await http.head("/v1/turns/t/events")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, SSE, b"")


async def test_a_streamed_turn_is_cancelled(http: httpx2.AsyncClient) -> None:
    """Law 5: the stream delivers the ending. A second cancel returns `already_ended`, an unknown turn is not found, and a
    cancel with a scope in its body is refused."""
    async with started(http, turn="t", input="Hi", params={"demo": SLOW}) as events:
        await events.until_seq(4)
        answer = await http.post("/v1/turns/t/cancel", json={"reason": "enough"})
        assert (answer.status_code, answer.json()) == (200, {"turns": {"t": "cancelled"}})
        ended = await events.ending()
        assert (ended["type"], ended["by"], ended["reason"]) == ("turn.cancelled", "client", "enough")
    assert (await http.post("/v1/turns/t/cancel")).json() == {"turns": {"t": "already_ended"}}
    assert (await http.post("/v1/turns/unknown/cancel")).status_code == 404
    assert (await http.post("/v1/turns/t/cancel", json={"mine": True})).json()["error"]["path"] == "mine"


@pytest.mark.parametrize("accept", [SSE, NDJSON, "application/json"])
async def test_law_8_a_disconnect_applies_on_disconnect(
    http: httpx2.AsyncClient, server: InLoopServer, accept: str
) -> None:
    """Law 8: the attachment ends at once.

    With `cancel` the turn ends after the grace period, otherwise it continues.
    """
    for turn, on_disconnect in (("c", "cancel"), ("g", "continue")):
        body = {"turn": turn, "input": "Hi", "params": {"demo": SLOW}, "on_disconnect": on_disconnect}

        async def listen(body: dict[str, Any] = body) -> None:
            async with http.stream("POST", "/v1/turns", json=body, headers={"accept": accept}) as response:
                await response.aread()

        listening = asyncio.get_running_loop().create_task(listen())
        await eventually(lambda turn=turn: attached(server, turn))  # type: ignore[misc]
        listening.cancel()
        await asyncio.wait([listening])
        await eventually(lambda turn=turn: not attached(server, turn))  # type: ignore[misc]
    cancelled = server.gateway.services.registry.get("local", "c")
    assert cancelled is not None
    async with asyncio.timeout(5):
        await cancelled.ended.wait()
    assert (await http.get("/v1/turns/c")).json()["status"] == "cancelled"
    assert (await http.get("/v1/turns/g")).json()["status"] == "running"


@both
async def test_a_quiet_stream_has_heartbeats(accept: str) -> None:
    """A heartbeat is sent if no other frame was sent in the interval."""
    async with serving(heartbeat_s=0.1) as running, http_client(running.url) as http:
        demo = {"first_ms": 600, "text": "Hi"}
        async with started(http, accept=accept, turn="t", input="Hi", params={"demo": demo}) as events:
            await events.ending()
            assert [frame["type"] for frame in events.asides].count("heartbeat") >= 2


async def test_a_refused_start_is_a_plain_error(http: httpx2.AsyncClient) -> None:
    """This applies to streams too: nothing is streamed before the turn is accepted."""
    for headers in ({"accept": SSE}, {}, ASYNC):
        answer = await http.post("/v1/turns", json={"input": "x", "model": "nope"}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    answer = await http.post("/v1/turns?x=1", json={"input": "x"})
    assert answer.json()["error"]["path"] == "x"


async def test_a_draining_gateway_refuses_streams(http: httpx2.AsyncClient, server: InLoopServer) -> None:
    """The status is 503 with `Retry-After`. Starts are refused too; cancels and reads still work."""
    await http.post("/v1/turns", json={"turn": "t", "input": "Hi", "params": {"demo": SLOW}}, headers=ASYNC)
    server.gateway.services.runner.is_draining = True
    answer = await http.get("/v1/turns/t/events")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (await http.post("/v1/turns", json={"input": "x"})).status_code == 503
    assert (await http.get("/v1/turns/t")).status_code == 200
    assert (await http.post("/v1/turns/t/cancel")).json() == {"turns": {"t": "cancelled"}}


async def test_text_has_the_same_bound_over_http_and_over_the_socket() -> None:
    """A text that is too long is refused with the same error on both, in any field. The data of an image isn't text, so
    only the limit of the body applies to it."""
    async with (
        serving(input_bytes=2000, body_bytes=65_536) as server,
        http_client(server.url) as http,
        client(server.ws_url) as c,
    ):
        message = {"role": "user", "parts": [{"kind": "text", "text": "x" * 2000}]}
        image = {"kind": "image", "media_type": "image/png", "data": "AAAA" * 1000}
        for fields in ({"input": "x" * 2000}, {"input": "Hi", "system": "x" * 2000}, {"messages": [message]}):
            answer = await http.post("/v1/turns", json=fields)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
            with pytest.raises(RequestFailed) as refused:
                await c.request("turn.start", **fields)
            assert refused.value.error == answer.json()["error"]
        started = {"input": [{"kind": "text", "text": "x" * 1500}, image], "params": {"demo": QUICK}}
        assert (await http.post("/v1/turns", json=started)).json()["status"] == "completed"
        assert (await c.request("turn.start", **started))["status"] == "running"
        refused_image = await http.post("/v1/turns", json={"input": [{**image, "data": "AAAA" * 17_000}]})
        assert (refused_image.status_code, refused_image.json()["error"]["code"]) == (413, "too_large")


async def test_an_answer_that_was_cut_is_continued(http: httpx2.AsyncClient) -> None:
    """With `continue`, the answer of `parent` gets its rest. `continue` and `input` exclude each other."""
    cut = {"rate": 0, "tokens": 40, "fail": "length", "fail_after": 10}
    start = {"input": "Hello", "params": {"demo": cut}}
    turn = (await http.post("/v1/turns", json=start, headers={"accept": "application/json"})).json()
    more = {"conversation": turn["conversation"], "parent": turn["message"]["id"], "continue": True}
    rest = {**more, "params": {"demo": {"rate": 0, "tokens": 40}}}
    whole = (await http.post("/v1/turns", json=rest, headers={"accept": "application/json"})).json()
    before = turn["message"]["parts"][0]["text"]
    assert whole["message"]["parts"][0]["text"].startswith(before)
    assert whole["finish_reason"] == "stop"
    refused = await http.post("/v1/turns", json={**more, "input": "x"})
    assert (refused.status_code, refused.json()["error"]["path"]) == (400, "continue")
