"""Tests of the WebSocket endpoint as an ASGI application: opening, reading, writing, heartbeats and closing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from gateway.protocol.codec import JSON
from gateway.protocol.events import Durability
from gateway.requests.services import Services
from gateway.sockets.endpoint import WebSocketEndpoint
from tests.in_process import SLOW, ControlledStore, eventually, open_services

LOCAL = [(b"host", b"127.0.0.1:8000")]


class Socket:
    """The server's side of a WebSocket: the client's frames, the sent messages, and whether the client reads."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.messages: list[dict[str, Any]] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.fails: Exception | None = None
        self.failed = False
        self._changed = asyncio.Event()

    async def send(self, message: Any) -> None:
        """Record a message of the application. A frame waits until the client reads."""
        if message["type"] == "websocket.send":
            await self.reads.wait()
        if self.fails is not None:
            self.failed = True
            self._changed.set()
            raise self.fails
        self.messages.append(dict(message))
        self._changed.set()

    def receive_text(self, frame: Any) -> None:
        """Queue a text frame of the client."""
        text = frame if isinstance(frame, str) else JSON.encode(frame).decode()
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    def receive_binary(self, data: bytes) -> None:
        """Queue a binary frame of the client."""
        self.incoming.put_nowait({"type": "websocket.receive", "bytes": data})

    def disconnect(self) -> None:
        """Disconnect the client."""
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1005})

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The frames that were sent to the client."""
        sent = [m for m in self.messages if m["type"] == "websocket.send"]
        return [msgspec.json.decode(m["text"]) if "text" in m else msgspec.msgpack.decode(m["bytes"]) for m in sent]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the frames of one type."""
        return [frame for frame in self.frames if frame["type"] == kind]

    @property
    def closed(self) -> tuple[int, str] | None:
        """The code and reason of the close frame."""
        found = [m for m in self.messages if m["type"] == "websocket.close"]
        assert len(found) <= 1
        return (found[0]["code"], found[0]["reason"]) if found else None

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until `condition()` holds."""
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def opened(
    services: Services,
    *,
    subprotocols: tuple[str, ...] = (),
    headers: list[tuple[bytes, bytes]] | None = None,
) -> AsyncIterator[Socket]:
    """Connect a client, and disconnect it at the end."""
    socket = Socket()
    scope = {
        "type": "websocket",
        "query_string": b"",
        "headers": LOCAL if headers is None else headers,
        "subprotocols": list(subprotocols),
        "state": {"services": services},
    }
    socket.incoming.put_nowait({"type": "websocket.connect"})
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(WebSocketEndpoint()(scope, socket.incoming.get, socket.send))
        await socket.until(lambda: socket.messages)
        try:
            yield socket
        finally:
            socket.reads.set()
            socket.disconnect()
            await asyncio.wait([running], timeout=10)


# --- opening ---


async def test_durability_is_sent_to_later_clients(services: Services) -> None:
    """Law 4: `durability` reports a state, so it is also sent to a client that connects during an outage."""
    async with opened(services) as early:
        await early.until(lambda: early.frames)
        services.clients.set_durability(Durability("degraded"))
        async with opened(services) as late:
            await late.until(lambda: late.of("durability"))
            assert [frame["type"] for frame in late.frames] == ["ready", "durability"]
            services.clients.set_durability(Durability("ok"))
            await late.until(lambda: len(late.of("durability")) == 2)
        async with opened(services) as after:
            await after.until(lambda: after.frames)
            assert after.of("durability") == []
        assert [frame["state"] for frame in early.of("durability")] == ["degraded", "ok"]


async def test_the_server_sends_ready_first(services: Services) -> None:
    """`ready` contains the user, the default model and the limits."""
    async with opened(services) as socket:
        await socket.until(lambda: socket.frames)
        assert socket.messages[0] == {"type": "websocket.accept", "subprotocol": None}
        ready = socket.frames[0]
        assert ready["connection"].startswith("cn_")
        assert ready["instance"].startswith("in_")
        del ready["connection"], ready["instance"]
        assert ready == {
            "type": "ready",
            "protocol": "turnwire.v1",
            "user": "local",
            "heartbeat_s": 15.0,
            "default_model": "demo",
            "limits": {"frame_bytes": 65536, "input_bytes": 262144, "turns": 64},
        }


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (("turnwire.v1.json",), "turnwire.v1.json"),
        (("turnwire.v1.msgpack",), "turnwire.v1.msgpack"),
        (("turnwire.v1.msgpack", "turnwire.v1.json"), "turnwire.v1.msgpack"),
        (("chat", "turnwire.v1.json"), "turnwire.v1.json"),
    ],
    ids=["json", "msgpack", "both", "one-known"],
)
async def test_exactly_one_offered_subprotocol_is_chosen(
    services: Services, offered: tuple[str, ...], chosen: str
) -> None:
    """The first known one is chosen, and determines the opcode of the frames."""
    async with opened(services, subprotocols=offered) as socket:
        await socket.until(lambda: socket.frames)
        assert socket.messages[0]["subprotocol"] == chosen
        assert ("bytes" in socket.messages[1]) == chosen.endswith("msgpack")


@pytest.mark.parametrize(
    ("subprotocols", "headers", "status", "code"),
    [
        (("chat",), LOCAL, 400, "invalid_request"),
        ((), [(b"host", b"example.com")], 403, "forbidden"),
        ((), [*LOCAL, (b"origin", b"https://example.com")], 403, "forbidden_origin"),
    ],
    ids=["subprotocol", "host", "origin"],
)
async def test_a_refused_opening_has_a_status_and_a_body(
    services: Services,
    subprotocols: tuple[str, ...],
    headers: list[tuple[bytes, bytes]],
    status: int,
    code: str,
) -> None:
    """An HTTP response is sent instead of the upgrade. Its body has the error and the known subprotocols."""
    async with opened(services, subprotocols=subprotocols, headers=headers) as socket:
        await socket.until(lambda: len(socket.messages) == 2)
        assert socket.messages[0]["status"] == status
        body = msgspec.json.decode(socket.messages[1]["body"])
        assert body["error"]["code"] == code
        assert body["subprotocols"] == ["turnwire.v1.json", "turnwire.v1.msgpack"]


async def test_a_draining_instance_refuses_new_sockets(services: Services) -> None:
    """They are refused with `shutting_down`."""
    services.runner.is_draining = True
    async with opened(services) as socket:
        await socket.until(lambda: len(socket.messages) == 2)
        assert socket.messages[0]["status"] == 503
        assert msgspec.json.decode(socket.messages[1]["body"])["error"]["code"] == "shutting_down"


# --- reading and writing ---


async def test_requests_are_answered(services: Services) -> None:
    """A hundred requests at once are all answered, in order."""
    async with opened(services) as socket:
        for n in range(100):
            socket.receive_text({"type": "ping", "id": f"{n}", "t": n})
        await socket.until(lambda: len(socket.of("result")) == 100)
        assert [frame["result"]["t"] for frame in socket.of("result")] == list(range(100))


async def test_a_turn_is_streamed(services: Services) -> None:
    """A turn is streamed from start to ending over one socket, in MessagePack."""
    async with opened(services, subprotocols=("turnwire.v1.msgpack",)) as socket:
        start = {
            "type": "turn.start",
            "id": "1",
            "turn": "t",
            "input": "Hi",
            "params": {"demo": {"rate": 0, "tokens": 50}},
        }
        socket.receive_binary(msgspec.msgpack.encode(start))
        await socket.until(lambda: socket.of("turn.completed"))
        assert socket.of("result")[0]["result"]["status"] == "running"


@pytest.mark.parametrize("binary", [False, True])
async def test_the_wrong_opcode_closes_1003(services: Services, binary: bool) -> None:
    """JSON requires text frames, and MessagePack binary ones. Later frames are ignored."""
    async with opened(services, subprotocols=("turnwire.v1.msgpack",) if binary else ()) as socket:
        if binary:
            socket.receive_text({"type": "ping", "id": "1"})
        else:
            socket.receive_binary(b"\x80")
        await socket.until(lambda: socket.closed)
        assert (socket.closed or (0, ""))[0] == 1003
        assert ("binary" if binary else "text") in (socket.closed or (0, ""))[1]
        before = len(socket.frames)
        socket.receive_text({"type": "ping", "id": "1"})
        socket.receive_text({"type": "ping", "id": "2"})
        await eventually(socket.incoming.empty)
        assert len(socket.frames) == before


async def test_twenty_invalid_frames_close_4400(services: Services) -> None:
    """None of the frames can be decoded."""
    async with opened(services) as socket:
        for _ in range(20):
            socket.receive_text("nonsense")
        await socket.until(lambda: socket.closed)
        assert (socket.closed or (0, ""))[0] == 4400


async def test_a_client_that_does_not_read_closes_4501(store: ControlledStore) -> None:
    """Law 11: over the limit the socket is closed, even if it never accepts another frame. The turn continues."""
    async with open_services(store, outbox_bytes=65_536) as services:
        async with opened(services) as socket:
            await socket.until(lambda: socket.frames)
            socket.reads.clear()
            demo = {"rate": 0, "tokens": 30_000}
            socket.receive_text({"type": "turn.start", "id": "1", "turn": "t", "input": "Hi", "params": {"demo": demo}})
            await socket.until(lambda: socket.closed)
            assert (socket.closed or (0, ""))[0] == 4501
        stream = services.registry.get("local", "t")
        assert stream is not None
        await asyncio.wait_for(stream.ended.wait(), 10)
        assert stream.end_status == "completed"


@pytest.mark.parametrize(
    "error", [OSError("broken pipe"), ConnectionResetError()], ids=lambda error: type(error).__name__
)
async def test_a_broken_socket_ends_without_an_error(services: Services, error: Exception) -> None:
    """A failed send ends the writer. The reader ends when the server reports the disconnect."""
    async with opened(services) as socket:
        await socket.until(lambda: socket.frames)
        socket.fails = error
        socket.receive_text({"type": "ping", "id": "1"})
        await socket.until(lambda: socket.failed)
        socket.receive_text({"type": "ping", "id": "2"})
    assert socket.closed is None


async def test_a_disconnect_drops_requests_but_no_turn(services: Services, store: ControlledStore) -> None:
    """Law 8: a turn continues without its connection, even if the store was still accepting it."""
    with store.blocked("accept") as accepting, store.blocked("usage"):
        async with opened(services) as socket:
            socket.receive_text({"type": "turn.start", "turn": "t", "input": "Hi", "params": {"demo": SLOW}})
            socket.receive_text({"type": "usage.get", "id": "1"})
            await accepting.wait()
    stream = services.registry.get("local", "t")
    assert stream is not None
    await asyncio.wait_for(asyncio.shield(stream.accepted), 5)
    assert stream.is_live


async def test_an_unexpected_error_ends_the_connection(services: Services) -> None:
    """A send that fails with an error other than that of a broken socket ends the connection."""

    async def served() -> None:
        async with opened(services) as socket:
            await socket.until(lambda: socket.frames)
            socket.fails = ValueError("a defect")
            socket.receive_text({"type": "ping", "id": "1"})
            await socket.until(lambda: socket.failed)

    with pytest.raises(ExceptionGroup):
        await served()


# --- heartbeats and shutdown ---


async def test_heartbeats_are_sent_on_a_quiet_connection(store: ControlledStore) -> None:
    """A heartbeat is sent if no other frame was sent in the interval, so not during a streaming turn."""
    async with open_services(store, heartbeat_s=0.05) as services:
        async with asyncio.TaskGroup() as tasks:
            heartbeats = tasks.create_task(services.clients.run_heartbeats())
            async with opened(services) as quiet, opened(services) as busy:
                demo = {"rate": 100, "tokens": 10_000}
                busy.receive_text(
                    {"type": "turn.start", "id": "1", "turn": "t", "input": "Hi", "params": {"demo": demo}}
                )
                await quiet.until(lambda: len(quiet.of("heartbeat")) == 3)
                assert quiet.of("heartbeat")[0]["t"] > 1_700_000_000_000
                assert len(busy.of("heartbeat")) <= 1
            heartbeats.cancel()


async def test_a_shutdown_is_announced_and_closes_4503(services: Services) -> None:
    """`going_away` is sent to every client, then the close frame."""
    async with opened(services) as one, opened(services) as two:
        await one.until(lambda: one.frames)
        await two.until(lambda: two.frames)
        services.clients.announce_leaving(30_000, lambda: 1000)
        closing = asyncio.get_running_loop().create_task(services.clients.close_all(5))
        for socket in (one, two):
            await socket.until(lambda socket=socket: socket.closed)  # type: ignore[misc]
            assert socket.frames[-1] == {
                "type": "going_away",
                "reason": "shutdown",
                "deadline_ms": 30_000,
                "reconnect_after_ms": 1000,
            }
            assert socket.closed == (4503, "This instance is shutting down. Connect again.")
            socket.disconnect()
        await asyncio.wait_for(closing, 10)


async def test_a_shutdown_does_not_wait_forever(services: Services) -> None:
    """A client that doesn't answer the close is abandoned after the timeout."""
    async with opened(services) as socket:
        await asyncio.wait_for(services.clients.close_all(0.02), 5)
        assert (socket.closed or (0, ""))[0] == 4503


async def test_a_connection_closes_once(services: Services) -> None:
    """The first close reason is kept."""
    async with opened(services) as socket:
        await socket.until(lambda: socket.frames)
        socket.receive_binary(b"\x80")
        await socket.until(lambda: socket.closed)
        socket.receive_binary(b"\x80")
        await services.clients.close_all(0.02)
        assert (socket.closed or (0, ""))[0] == 1003
