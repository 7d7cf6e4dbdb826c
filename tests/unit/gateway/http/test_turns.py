"""Turns over HTTP, against a real server in this loop: streams, waits, resumes, cancels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.client import TurnView, client
from tests.demo import expected
from tests.http_events import NDJSON, SSE, followed, http_client, started
from tests.in_loop_server import InLoopServer, serving
from tests.in_process import SLOW, eventually

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
    """Laws 1 and 2; behind the ending the response ends. No proxy keeps or delays it."""
    async with started(http, accept=accept, turn="t", input="Hi", params={"demo": QUICK}) as events:
        headers = events.response.headers
        assert (headers["content-type"], headers["cache-control"]) == (accept, "no-store")
        assert (headers["x-accel-buffering"], headers["location"]) == ("no", "/v1/turns/t")
        assert (await events.ending())["type"] == "turn.completed"
        assert events.view.text() == QUICK["text"]
        assert await events.next() is None


async def test_large_bodies_at_the_same_time_are_bounded() -> None:
    """Beyond the bound 429, while it lasts; a body that fits a frame is taken all the same, and so is a large one when
    another has been taken, refused, or given up."""
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
    """The turn as `turn.get` shows it: message, usage and cost."""
    answer = await http.post("/v1/turns", json={"turn": "t", "input": "Hi", "params": {"demo": QUICK}})
    assert (answer.status_code, answer.headers["location"]) == (200, "/v1/turns/t")
    view = answer.json()
    assert (view["status"], view["message"]["parts"]) == ("completed", [{"kind": "text", "text": QUICK["text"]}])
    assert view["usage"]["output_tokens"] > 0
    assert (await http.get("/v1/turns/t")).json() == view
    again = await http.post("/v1/turns", json={"turn": "t", "input": "Hi", "params": {"demo": QUICK}})
    assert again.json() == view, "law 6"


async def test_a_turn_that_fails_has_the_status_of_its_error(http: httpx2.AsyncClient) -> None:
    """And what was said until then is in the body."""
    demo = {**QUICK, "fail": "overloaded"}
    answer = await http.post("/v1/turns", json={"input": "Hi", "params": {"demo": demo}})
    assert answer.status_code == 503
    assert (answer.json()["status"], answer.json()["error"]["code"]) == ("failed", "upstream_overloaded")


async def test_a_wait_is_not_bounded_by_what_is_streamed(http: httpx2.AsyncClient, server: InLoopServer) -> None:
    """An answer larger than the outbox's bound is waited for, though nobody reads its events."""
    demo = {"text": "word" * 250 + " ", "tokens": 300, "rate": 0}
    answer = await http.post("/v1/turns", json={"input": "x", "params": {"demo": demo}, "on_disconnect": "cancel"})
    assert answer.status_code == 200
    assert len(answer.json()["message"]["parts"][0]["text"]) > server.gateway.settings.outbox_bytes


async def test_who_prefers_not_to_wait_attaches_over_the_socket(http: httpx2.AsyncClient, server: InLoopServer) -> None:
    """202 with the result of `turn.start`, and the address of the turn."""
    body = {"turn": "t", "input": "Hi", "params": {"demo": {"rate": 100, "tokens": 30}}}
    answer = await http.post("/v1/turns", json=body, headers={"prefer": "respond-async"})
    assert (answer.status_code, answer.headers["location"]) == (202, "/v1/turns/t")
    assert answer.headers["preference-applied"] == "respond-async"
    placed = answer.json()
    assert placed["status"] == "running"
    async with client(server.ws_url) as c:
        await c.request("turn.attach", turn="t")
        assert (await c.ending("t"))["type"] == "turn.completed"
        assert c.turns["t"].epoch == placed["epoch"]


@both
async def test_a_stream_is_resumed_at_every_event(http: httpx2.AsyncClient, accept: str) -> None:
    """Law 7: cut anywhere and resumed by `Last-Event-ID`, each event comes once; behind the ending there is 204."""
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


async def test_a_position_that_can_t_be_continued_starts_again(http: httpx2.AsyncClient) -> None:
    """Law 7: never silence, never a gap: a reset, and then everything."""
    async with started(http, turn="t", input="Hi", params={"demo": QUICK}) as events:
        await events.ending()
    view = TurnView()
    view.epoch, view.seq = 5, 3
    async with followed(http, "t", view) as events:
        await events.ending()
        assert events.frames[0]["type"] == "turn.reset"
        assert events.ids[0].endswith("-0")
    assert view.text() == QUICK["text"]


async def test_what_can_t_be_followed_says_why(http: httpx2.AsyncClient, server: InLoopServer) -> None:
    """Unknown 404, a wrong id 400, no acceptable form 406; events that are no longer kept 410 with the message's id."""
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


async def test_a_head_is_no_stream(http: httpx2.AsyncClient) -> None:
    """HEAD says how it would begin, and ends."""
    await http.post("/v1/turns", json={"turn": "t", "input": "Hi", "params": {"demo": SLOW}}, headers=ASYNC)
    answer = await http.head("/v1/turns/t/events")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, SSE, b"")


ASYNC = {"prefer": "respond-async"}


async def test_cancel_while_it_streams(http: httpx2.AsyncClient) -> None:
    """Law 5: the stream has its ending; a second cancel says so; an unknown turn is not found."""
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
async def test_law_8_a_client_that_goes_follows_on_disconnect(
    http: httpx2.AsyncClient, server: InLoopServer, accept: str
) -> None:
    """Law 8: its attachment drops at once; with `cancel` the turn ends after the grace, else it goes on."""
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
    """While nothing else comes."""
    async with serving(heartbeat_s=0.1) as running, http_client(running.url) as http:
        demo = {"first_ms": 600, "text": "Hi"}
        async with started(http, accept=accept, turn="t", input="Hi", params={"demo": demo}) as events:
            await events.ending()
            assert [frame["type"] for frame in events.asides].count("heartbeat") >= 2


async def test_a_refused_start_is_a_plain_error(http: httpx2.AsyncClient) -> None:
    """Also where a stream was wanted: nothing is streamed before the turn is accepted."""
    for headers in ({"accept": SSE}, {}, ASYNC):
        answer = await http.post("/v1/turns", json={"input": "x", "model": "nope"}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    answer = await http.post("/v1/turns?x=1", json={"input": "x"})
    assert answer.json()["error"]["path"] == "x"


async def test_a_gateway_that_leaves_takes_no_stream(http: httpx2.AsyncClient, server: InLoopServer) -> None:
    """503 and when to come back; stopping and reading goes on while the process does."""
    await http.post("/v1/turns", json={"turn": "t", "input": "Hi", "params": {"demo": SLOW}}, headers=ASYNC)
    server.gateway.services.runner.is_draining = True
    answer = await http.get("/v1/turns/t/events")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (await http.post("/v1/turns", json={"input": "x"})).status_code == 503
    assert (await http.get("/v1/turns/t")).status_code == 200
    assert (await http.post("/v1/turns/t/cancel")).json() == {"turns": {"t": "cancelled"}}
