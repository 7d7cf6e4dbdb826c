"""Tests of OpenAI Responses over a WebSocket: lanes, contexts that only the socket has, and what clients do wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.credentials import KeyFile, bearer
from tests.http_events import http_client
from tests.in_loop_server import InLoopServer, serving
from tests.metrics import value
from tests.open_responses import check_event, check_socket_error

Event = dict[str, Any]
QUICK = {"rate": 0, "text": "Hello, how are you?"}

MANY_ITEMS = json.dumps({"type": "response.create", "input": [{"role": "user", "content": "x"}] * 101})


@pytest.fixture
async def server() -> AsyncIterator[InLoopServer]:
    async with serving(disconnect_grace_s=0.1) as running:
        yield running


class Socket:
    """A client's socket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def create(self, text: Any = "Hi", demo: dict[str, Any] | None = None, **fields: Any) -> None:
        """Send a request."""
        body = {"type": "response.create", "model": "demo", "input": text, "demo": demo or QUICK, **fields}
        await self.connection.send(json.dumps(body))

    async def event(self) -> Event:
        """Return the next event, after a check of its form."""
        async with asyncio.timeout(20):
            event: Event = json.loads(await self.connection.recv())
        if event["type"] == "error" and "status" in event:
            check_socket_error(event)
        else:
            check_event(event)
        return event

    async def until_end(self, lane: str | None = None) -> Event:
        """Return the last event of the next response of a lane, or an error. Others may come in between."""
        while True:
            event = await self.event()
            if event.get("stream_id") == lane and is_end(event):
                return event

    async def respond(self, *arguments: Any, **fields: Any) -> Event:
        """Return the last event of a new response."""
        await self.create(*arguments, **fields)
        return await self.until_end(fields.get("stream_id"))


def is_end(event: Event) -> bool:
    """Return whether no event of the response follows."""
    return event["type"] in {"response.completed", "response.failed", "response.incomplete", "error"}


@asynccontextmanager
async def opened(server: InLoopServer, path: str = "/v1/responses", **options: Any) -> AsyncIterator[Socket]:
    url = f"ws://127.0.0.1:{server.port}{path}"
    async with connect(url, proxy=None, max_size=None, **options) as connection:
        yield Socket(connection)


def text_of(event: Event) -> str:
    """Return the text of a whole response."""
    items = event["response"]["output"]
    return "".join(part["text"] for item in items if item["type"] == "message" for part in item["content"])


@pytest.mark.parametrize("path", ["/v1/responses", "/openai/v1/responses"])
async def test_responses_one_after_the_other(server: InLoopServer, path: str) -> None:
    """Each response continues the one before it, whether that is stored or not."""
    async with opened(server, path) as socket:
        for store in (True, False):
            first = await socket.respond("One", store=store)
            assert text_of(first) == QUICK["text"]
            name = first["response"]["id"]
            second = await socket.respond("Two", store=store, previous_response_id=name)
            third = await socket.respond("Three", store=store, previous_response_id=second["response"]["id"])
            assert third["response"]["previous_response_id"] == second["response"]["id"]
            assert third["response"]["usage"]["input_tokens"] > first["response"]["usage"]["input_tokens"]
            assert third["response"]["store"] is store


async def test_an_unstored_context_is_only_known_to_its_socket(server: InLoopServer) -> None:
    """Clients send the whole context after this error."""
    async with opened(server) as socket, opened(server) as other:
        first = (await socket.respond("One", store=False))["response"]["id"]
        refused = await other.respond("Two", previous_response_id=first)
        assert (refused["status"], refused["error"]["code"]) == (400, "previous_response_not_found")
        assert (await socket.respond("Two", previous_response_id=first))["type"] == "response.completed"


async def test_a_deleted_response_cant_be_continued(server: InLoopServer) -> None:
    """This applies even on the socket that remembers its context."""
    async with opened(server) as socket, http_client(server.url) as http:
        for store in (True, False):
            first = (await socket.respond("One", store=store))["response"]["id"]
            assert (await http.delete(f"/v1/responses/{first}")).status_code == 200
            refused = await socket.respond("Two", previous_response_id=first, store=store)
            assert (refused["status"], refused["error"]["code"]) == (400, "previous_response_not_found")


async def test_a_warm_up(server: InLoopServer) -> None:
    """It is answered with an empty response, which the next one continues. No model is asked."""
    system = {"role": "system", "content": "Be brief."}
    async with opened(server) as socket, http_client(server.url) as http:
        await socket.create([system, {"role": "user", "content": "One"}], generate=False, stream_id="a")
        events = [await socket.event() for _ in range(3)]
        assert [event["type"] for event in events] == ["response.created", "response.in_progress", "response.completed"]
        assert {event["stream_id"] for event in events} == {"a"}
        response = events[-1]["response"]
        assert (response["output"], response["usage"]["total_tokens"]) == ([], 0)
        first = await socket.respond([], previous_response_id=response["id"])
        assert text_of(first) == QUICK["text"]
        assert value((await http.get("/metrics")).text, "turnwire_turns_started_total", dialect="responses") == 1


async def test_lanes_run_at_the_same_time(server: InLoopServer) -> None:
    """Each lane has its own order: what it is sent runs one after the other."""
    slow = {"rate": 40, "tokens": 2000}
    async with opened(server) as socket:
        await socket.create("Slow", slow, stream_id="slow")
        while (await socket.event())["type"] != "response.output_text.delta":
            pass
        await socket.create("Later", stream_id="slow")
        for lane in ("a", "b", None):
            fields = {} if lane is None else {"stream_id": lane}
            assert text_of(await socket.respond("Quick", **fields)) == QUICK["text"]
        async with http_client(server.url) as http:
            turns = (await http.get("/v1/admin/turns")).json()["turns"]
            (running,) = [turn["turn"] for turn in turns if turn["status"] == "running"]
            await http.post(f"/v1/responses/{running}/cancel")
        assert (await socket.until_end("slow"))["response"]["status"] == "cancelled"
        assert text_of(await socket.until_end("slow")) == QUICK["text"]


async def test_a_fork_onto_another_lane(server: InLoopServer) -> None:
    async with opened(server) as socket:
        first = (await socket.respond("One", stream_id="a"))["response"]["id"]
        for lane in ("a", "b"):
            await socket.create("Two", previous_response_id=first, stream_id=lane)
        ends: list[Event] = []
        while len(ends) < 2:
            event = await socket.event()
            ends += [event] if is_end(event) else []
        assert {event["stream_id"] for event in ends} == {"a", "b"}
        assert {event["type"] for event in ends} == {"response.completed"}


@pytest.mark.parametrize(
    ("frame", "code", "param"),
    [
        ("garbage", "invalid_frame", None),
        ("[]", "invalid_frame", None),
        ("{}", "invalid_request", "type"),
        ('{"type":"response.cancel"}', "invalid_request", "type"),
        ('{"type":"response.steer","previous_response_id":"x","input":[]}', "unsupported_parameter", "type"),
        ('{"type":"response.create","input":"Hi","stream_id":"a b"}', "invalid_request", "stream_id"),
        ('{"type":"response.create","input":"Hi","stream_id":""}', "invalid_request", "stream_id"),
        ('{"type":"response.create","input":"Hi","model":"nobody"}', "model_not_found", None),
        ('{"type":"response.create","input":"Hi","tools":[{"type":"mcp"}]}', "unsupported_parameter", "tools[0].type"),
        ('{"type":"response.create"}', "invalid_request", "input"),
        (MANY_ITEMS, "too_large", None),
        ('{"type":"response.create","input":"' + "x" * 300_000 + '"}', "too_large", None),
    ],
)
async def test_an_invalid_frame_is_answered(frame: str, code: str, param: str | None) -> None:
    """The answer is an error in the form of the protocol. The socket and its other responses go on."""
    async with serving(request_items=100) as server, opened(server) as socket:
        await socket.create("Slow", {"rate": 100, "text": "Hello, how are you? " * 5}, stream_id="other")
        await socket.connection.send(frame)
        ends: dict[str, Event] = {}
        while len(ends) < 2:
            event = await socket.event()
            ends |= {event["type"]: event} if is_end(event) else {}
        error = ends["error"]["error"]
        assert (error["code"], error["param"], set(ends)) == (code, param, {"error", "response.completed"})


async def test_old_and_unknown_fields_are_accepted(server: InLoopServer) -> None:
    fields = {"stream": True, "background": False, "client_metadata": {"a": 1}, "user": "u", "service_tier": "ultra"}
    async with opened(server, additional_headers={"openai-beta": "responses_websockets=2026-02-06"}) as socket:
        assert (await socket.respond("Hi", **fields))["type"] == "response.completed"


async def test_a_failure_of_the_model(server: InLoopServer) -> None:
    async with opened(server) as socket:
        failed = await socket.respond("Hi", {"fail": "overloaded", "rate": 0}, stream_id="a")
        assert (failed["type"], failed["response"]["error"]["code"]) == ("response.failed", "server_error")
        assert (await socket.respond("Hi", stream_id="a"))["type"] == "response.completed"


async def test_binary_and_long_frames_close_the_socket(server: InLoopServer) -> None:
    for data, code in ((b"{}", 1008), ("x" * (4 * 1024 * 1024 + 1), 1009)):
        async with opened(server) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await socket.connection.send(data)
                await socket.event()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == code


async def test_many_invalid_frames_close_the_socket(server: InLoopServer) -> None:
    async with opened(server) as socket:
        for _ in range(20):
            await socket.connection.send("garbage")
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await socket.event()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


async def test_a_client_that_goes_away_stops_its_responses(server: InLoopServer) -> None:
    async with opened(server) as socket:
        await socket.create("Hi", {"rate": 50, "tokens": 4000})
        turn = (await socket.event())["response"]["id"]
    async with http_client(server.url) as http, asyncio.timeout(20):
        while (await http.get(f"/v1/responses/{turn}")).json()["status"] == "in_progress":
            await asyncio.sleep(0.02)
        assert (await http.get(f"/v1/responses/{turn}")).json()["status"] == "cancelled"


async def test_a_drain_tells_clients_to_open_another_socket() -> None:
    """They get the error code and the close code after which they reconnect by themselves."""
    async with serving() as server, opened(server) as socket:
        await socket.create("Hi", {"rate": 20, "tokens": 4000})
        assert (await socket.event())["type"] == "response.created"
        draining = asyncio.ensure_future(server.gateway.drain())
        events: list[Event] = []
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                events.append(await socket.event())
        await draining
    assert events[-1]["error"]["code"] == "websocket_connection_limit_reached"
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


async def test_openings(tmp_path: Path) -> None:
    """The credential comes with the opening. A refusal has the form of the protocol's errors."""
    file = KeyFile(tmp_path)
    key, service = file.add(user="ann"), file.add_service()
    settings = {"auth": "keys", "api_keys": str(file.path), "user_connections": 1}
    async with serving(**settings) as server:
        for headers, status in (({}, 403), (bearer("tw_no"), 401)):
            with pytest.raises(InvalidStatus) as refused:
                async with opened(server, additional_headers=headers):
                    pass
            assert refused.value.response.status_code == status
            body = json.loads(refused.value.response.body or b"")
            assert set(body["error"]) == {"message", "type", "param", "code"}
        async with opened(server, additional_headers=bearer(key)) as socket:
            first = (await socket.respond("Hi"))["response"]["id"]
            with pytest.raises(InvalidStatus) as many:
                async with opened(server, additional_headers=bearer(key)):
                    pass
            assert many.value.response.status_code == 429
        headers = {**bearer(service), "turnwire-as": "bob"}
        async with opened(server, additional_headers=headers) as socket:
            refused_event = await socket.respond("Hi", previous_response_id=first)
            assert refused_event["error"]["code"] == "previous_response_not_found"
        with pytest.raises(InvalidStatus):
            async with opened(server, additional_headers={**bearer(key), "turnwire-as": "bob"}):
                pass


async def test_a_client_that_reads_too_slowly_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    """Law 11: nobody else waits for it. The close frame follows what was sent, also while an error waits to be sent."""
    async with serving(outbox_bytes=65536, close_timeout_s=10) as server:
        async with opened(server, max_queue=1) as socket:
            connection = socket.connection
            await socket.create(demo={"rate": 0, "tokens": 400_000})
            connection.transport.pause_reading()
            for _ in range(10):
                await connection.send("{}")
            clients = server.gateway.services.telemetry.slow_clients
            async with asyncio.timeout(20):
                while clients.labels("websocket")._value.get() == 0:
                    await asyncio.sleep(0.05)
            connection.transport.resume_reading()
            with pytest.raises(ConnectionClosed):
                while True:
                    await connection.recv()
            assert connection.close_code == 1013
    assert "Traceback" not in caplog.text


async def test_old_contexts_are_forgotten() -> None:
    """What a socket remembers is bounded."""
    async with serving(input_bytes=2000) as server, opened(server) as socket:
        first = (await socket.respond("x" * 1500, store=False))["response"]["id"]
        for _ in range(6):
            await socket.respond("y" * 1500, store=False)
        refused = await socket.respond("Two", store=False, previous_response_id=first)
        assert refused["error"]["code"] == "previous_response_not_found"
