"""Bad input over a real socket: each kind has its error code and doesn't affect the other turns."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx_ws
import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.client import Client, RequestFailed, client
from tests.gateway_process import GatewayProcess, gateway_process

pytestmark = pytest.mark.e2e

NEIGHBOR = {"rate": 100, "tokens": 60}


@asynccontextmanager
async def client_with_turn(gateway: GatewayProcess, codec: str = "json") -> AsyncIterator[Client]:
    """Connect a client with a running turn. On exit, the turn must have completed normally."""
    async with client(gateway.ws_url, codec=codec) as c:
        await c.request("turn.start", turn="neighbor", input="Hello", params={"demo": NEIGHBOR})
        yield c
        assert (await c.ending("neighbor"))["type"] == "turn.completed"


async def error_without_id(c: Client) -> dict[str, Any]:
    """Wait for an error without an id and return it."""
    found: list[dict[str, Any]] = []

    def seen() -> bool:
        found[:] = [frame for frame in c.frames if frame["type"] == "error" and "id" not in frame]
        return bool(found)

    await c.until(seen)
    error: dict[str, Any] = found[0]["error"]
    return error


DEEP = '{"type":"ping","id":"x","t":' + "[" * 5000 + "]" * 5000 + "}"


@pytest.mark.parametrize(
    "frame",
    [
        "not json",
        "[]",
        "5",
        '{"id":5}',
        '{"type":"no.such.type"}',
        '{"type":"ping","extra":1}',
        '{"type":"ping","t":NaN}',
        '{"type":"ping","id":"\\ud800"}',
        DEEP,
        '{"type":"turn.start","input":"x","metadata":' + '{"a":' * 40 + "1" + "}" * 41,
    ],
    ids=["no-json", "array", "number", "no-type", "type", "field", "nan", "surrogate", "deep", "deep-metadata"],
)
async def test_a_frame_that_cant_be_decoded_is_invalid_frame(gateway: GatewayProcess, frame: str) -> None:
    """A frame that can't be decoded is answered with `invalid_frame`, and the socket stays open."""
    async with client_with_turn(gateway) as c:
        await c.send_raw(frame)
        await c.until(lambda: any(f["type"] == "error" for f in c.frames))
        error = next(f for f in c.frames if f["type"] == "error")["error"]
        assert error["code"] == "invalid_frame"
        assert error["retryable"] is False
        await c.request("ping")


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"turn": 5, "input": "x"}, "invalid_request", "turn"),
        ({"turn": "a b", "input": "x"}, "invalid_request", "turn"),
        ({"input": "x", "params": {"temperature": 9}}, "invalid_request", "params.temperature"),
        ({"input": ""}, "invalid_request", "input"),
        ({}, "invalid_request", "input"),
        ({"input": "x", "messages": []}, "invalid_request", "input"),
        ({"messages": []}, "invalid_request", "messages"),
        ({"input": "x", "parent": "m_1"}, "invalid_request", "conversation"),
        ({"input": "x", "conversation": "c_none"}, "not_found", "conversation"),
        ({"input": "x", "model": "no-such-model"}, "model_not_found", None),
        ({"input": "x", "model": "gpt-6-sol"}, "upstream_auth", None),
        ({"input": "x", "model": "claude-opus-5-5"}, "upstream_auth", None),
        ({"input": "x", "model": "kimi/anything"}, "upstream_auth", None),
        ({"input": "x", "params": {"demo": {"nonsense": 1}}}, None, None),
    ],
)
async def test_an_invalid_start_is_refused(
    gateway: GatewayProcess, fields: dict[str, Any], code: str | None, path: str | None
) -> None:
    """An invalid `turn.start` gets an error with its code and, if the error has one, the path of the field. An invalid
    demo option fails the turn."""
    async with client_with_turn(gateway) as c:
        if code is None:
            started = await c.request("turn.start", **fields)
            ended = await c.ending(started["turn"])
            assert ended["error"]["code"] == "invalid_request"
            return
        with pytest.raises(RequestFailed) as refused:
            await c.request("turn.start", **fields)
        assert refused.value.code == code
        assert refused.value.error.get("path") == path
        if code == "upstream_auth":
            assert "_API_KEY" in refused.value.error["message"]


async def test_unknown_ids_are_not_found(gateway: GatewayProcess) -> None:
    """Every request that takes an id answers `not_found` for an id that doesn't exist."""
    async with client_with_turn(gateway) as c:
        requests: list[tuple[str, dict[str, Any]]] = [
            ("turn.get", {"turn": "nobody"}),
            ("turn.detach", {"turn": "nobody"}),
            ("conversation.get", {"conversation": "c_none"}),
            ("conversation.update", {"conversation": "c_none", "title": "x"}),
            ("conversation.clear", {"conversation": "c_none"}),
            ("conversation.delete", {"conversation": "c_none"}),
            ("conversation.messages", {"conversation": "c_none"}),
            ("conversation.attach", {"conversation": "c_none"}),
            ("conversation.detach", {"conversation": "c_none"}),
            ("feedback.put", {"message": "m_none", "rating": "up"}),
            ("usage.get", {"conversation": "c_none"}),
        ]
        for kind, fields in requests:
            with pytest.raises(RequestFailed) as refused:
                await c.request(kind, **fields)
            assert refused.value.code == "not_found", kind
        assert await c.request("turn.cancel", turn="nobody") == {"turns": {"nobody": "not_found"}}
        attached = await c.request("turn.attach", turn="nobody")
        assert attached["turns"]["nobody"]["error"]["code"] == "not_found"


async def test_a_request_id_in_flight_cant_be_reused(gateway: GatewayProcess) -> None:
    """A second request with the id of a request that isn't answered yet is refused; the first one is answered."""
    async with connect(gateway.ws_url, compression=None) as socket:
        assert json.loads(await socket.recv())["type"] == "ready"
        for frame in ({"type": "conversation.create", "id": "same"}, {"type": "ping", "id": "same"}):
            socket.protocol.send_text(json.dumps(frame).encode())
        # In one segment, so that the second request arrives before the first can be answered.
        socket.transport.write(b"".join(socket.protocol.data_to_send()))
        answers = [json.loads(await socket.recv()) for _ in range(2)]
        assert [answer["id"] for answer in answers] == ["same", "same"]
        refused, result = sorted(answers, key=lambda answer: str(answer["type"]))
        assert (refused["type"], refused["error"]["code"]) == ("error", "invalid_request")
        assert (result["type"], result["result"]["messages"]) == ("result", 0)


async def test_the_65th_turn_is_refused(tmp_path: Path) -> None:
    """A start beyond the connection's limit of live turns is `rate_limited`; after one of them is cancelled a new one
    can start."""
    async with gateway_process(tmp_path) as gateway, client(gateway.ws_url) as c:
        assert c.ready["limits"]["turns"] == 64
        slow = {"demo": {"first_ms": 60_000}}
        for n in range(64):
            await c.request("turn.start", turn=f"t{n}", input="x", params=slow)
        with pytest.raises(RequestFailed) as refused:
            await c.request("turn.start", turn="t64", input="x", params=slow)
        assert refused.value.code == "rate_limited"
        assert refused.value.error["retryable"] is True
        assert (await c.request("turn.start", turn="t0", input="x", params=slow))["status"] == "attached"
        await c.request("turn.cancel", turn="t0")
        await c.ending("t0")
        assert (await c.request("turn.start", turn="t64", input="x", params=slow))["status"] == "running"
        assert set((await c.request("turn.cancel", mine=True))["turns"].values()) == {"cancelled"}


@pytest.mark.parametrize(
    ("codec", "data", "code"),
    [
        ("json", b"\x81\xa4type\xa4ping", 1003),
        ("msgpack", '{"type":"ping"}', 1003),
        ("json", '{"type":"ping","id":"' + "x" * 70_000 + '"}', 1009),
        ("msgpack", b"\x00" * 70_000, 1009),
    ],
    ids=["binary-on-json", "text-on-msgpack", "too-large-json", "too-large-msgpack"],
)
async def test_a_wrong_opcode_or_a_large_frame_closes_the_socket(
    gateway: GatewayProcess, codec: str, data: bytes | str, code: int
) -> None:
    """The wrong opcode closes the socket with 1003 and a frame that is too large with 1009; the connection's turns
    continue."""
    async with client(gateway.ws_url, codec=codec) as c:
        await c.request("turn.start", turn="t", input="Hello", params={"demo": NEIGHBOR})
        await c.send_raw(data)
        assert (await c.until_closed())[0] == code
    async with client(gateway.ws_url) as c:
        await c.request("turn.attach", turn="t")
        assert (await c.ending("t"))["type"] == "turn.completed"


async def test_text_that_is_not_utf8_closes_1007(gateway: GatewayProcess) -> None:
    """A text frame that isn't UTF-8 closes the socket with 1007."""
    async with client(gateway.ws_url) as c:
        c.socket.protocol.send_text(b'{"type":"ping\xff"}')
        c.socket.transport.write(b"".join(c.socket.protocol.data_to_send()))
        assert (await c.until_closed())[0] == 1007


async def test_twenty_invalid_frames_close_4400(gateway: GatewayProcess) -> None:
    """The socket is closed with 4400 after 20 frames that can't be decoded."""
    async with client(gateway.ws_url) as c:
        for _ in range(19):
            await c.send_raw("nonsense")
        await c.request("ping")
        await c.send_raw("nonsense")
        assert (await c.until_closed())[0] == 4400


async def test_messagepack_types_outside_the_protocol_are_invalid_frame(gateway: GatewayProcess) -> None:
    """In MessagePack, binary values, extension types, keys that aren't strings, and NaN are `invalid_frame`."""
    async with client_with_turn(gateway, "msgpack") as c:
        for value in (b"bin", msgspec.msgpack.Ext(5, b"x"), {1: 2}, float("nan")):
            frame = {"type": "turn.start", "id": "x", "input": "x", "metadata": {"value": value}}
            with pytest.raises(RequestFailed) as refused:
                await c.send_raw(msgspec.msgpack.encode(frame))
                await c.answer("x")
            assert refused.value.code == "invalid_frame"


async def test_the_subprotocol_is_chosen_or_refused(gateway: GatewayProcess) -> None:
    """The first known one of the offered subprotocols is selected. If all are unknown, the answer is HTTP 400 with the
    list of known ones."""
    known = [Subprotocol("x"), Subprotocol("turnwire.v1.msgpack"), Subprotocol("turnwire.v1.json")]
    async with connect(gateway.ws_url, subprotocols=known) as socket:
        assert socket.subprotocol == "turnwire.v1.msgpack"
        assert socket.protocol.extensions == []
    with pytest.raises(InvalidStatus) as refused:
        async with connect(gateway.ws_url, subprotocols=[Subprotocol("x")]):
            pass
    assert refused.value.response.status_code == 400
    body = json.loads(refused.value.response.body or b"")
    assert body["subprotocols"] == ["turnwire.v1.json", "turnwire.v1.msgpack"]


async def test_a_foreign_origin_or_host_is_refused(gateway: GatewayProcess) -> None:
    """A page of another site can't connect, neither with its own origin nor with a host name that it rebinds to this
    address."""
    own = Origin(gateway.url)
    async with connect(gateway.ws_url, origin=own) as socket:
        assert json.loads(await socket.recv())["type"] == "ready"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(gateway.ws_url, origin=Origin("https://evil.example")):
            pass
    assert refused.value.response.status_code == 403
    port = urlsplit(gateway.url).port
    for rebound in (
        connect(f"ws://evil.example:{port}/ws", host="127.0.0.1"),
        connect(gateway.ws_url, additional_headers={"Host": "evil.example"}),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with rebound:
                pass
        assert refused.value.response.status_code == 403


async def test_httpx_ws_can_run_a_turn(gateway: GatewayProcess) -> None:
    """httpx-ws, which implements WebSocket with wsproto, starts a turn and reads it to its end."""
    socket: httpx_ws.AsyncWebSocketSession
    async with httpx_ws.aconnect_ws(gateway.ws_url, subprotocols=["turnwire.v1.json"]) as socket:
        assert (await socket.receive_json())["type"] == "ready"
        await socket.send_json({"type": "turn.start", "turn": "t", "input": "Hi", "params": {"demo": {"tokens": 3}}})
        async with asyncio.timeout(10):
            while (await socket.receive_json())["type"] != "turn.completed":
                pass
