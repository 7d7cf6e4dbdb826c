"""The Python client against real gateways, and against what isn't one."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from tests.certificates import make_certificate
from tests.client_stage import client_stage
from tests.credentials import SECRET, KeyFile, token
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.gateway_process import ROOT, clean_environment, gateway_process
from turnwire.client import (
    AbortController,
    CallbackFailed,
    CertificateUntrusted,
    ConnectFailed,
    ConnectionClosed,
    Message,
    NotAGateway,
    ProtocolMismatch,
    TurnDelta,
    TurnFailed,
    TurnStarted,
    TurnwireError,
    Unauthenticated,
    connect,
)

pytestmark = pytest.mark.e2e


def demo(text: str | None = None, **options: Any) -> dict[str, Any]:
    """Return params for the demo model."""
    return {"demo": {"rate": 0, **({"text": text} if text else {}), **options}}


@asynccontextmanager
async def plain_server(answer: bytes) -> AsyncIterator[str]:
    """A TCP server that sends `answer` to everyone. Give its URL."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"


@asynccontextmanager
async def socket_server(first: str | None, subprotocol: str | None, **options: Any) -> AsyncIterator[str]:
    """A WebSocket server that sends one frame. Give its URL."""

    async def serve_one(websocket: ServerConnection) -> None:
        if first is not None:
            await websocket.send(first)
        await websocket.wait_closed()

    def select(_: ServerConnection, __: Any) -> Any:
        return subprotocol

    async with serve(serve_one, "127.0.0.1", 0, select_subprotocol=select, **options) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws"


async def refused(url: str, **options: Any) -> ConnectFailed:
    """Return the error of an attempt to connect. It has to be a sentence."""
    with pytest.raises(ConnectFailed) as raised:
        await connect(url, **options)
    error = raised.value
    assert str(error).endswith("."), error
    return error


async def test_what_is_not_a_gateway_is_named(tmp_path: Path) -> None:
    """Whatever answers, or doesn't, connecting raises a typed error that says what to do, and leaves nothing behind."""
    ready = '{"type":"ready","protocol":"turnwire.v9","heartbeat_s":15,"user":"x","limits":{}}'

    def future(_: ServerConnection, __: Request) -> Response:
        body = {
            "error": {"code": "invalid_request", "message": "Offer turnwire.v2.json.", "retryable": False},
            "subprotocols": ["turnwire.v2.json"],
        }
        headers = Headers({"Content-Type": "application/json", "Connection": "close"})
        return Response(400, "Bad Request", headers, msgspec.json.encode(body))

    servers: list[tuple[Any, type[ConnectFailed], str]] = [
        (plain_server(b"SSH-2.0-OpenSSH_9.6\r\n"), NotAGateway, "not_a_gateway"),
        (plain_server(b""), NotAGateway, "not_a_gateway"),
        (plain_server(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n<html></html"), NotAGateway, "not_a_gateway"),
        (plain_server(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), NotAGateway, "not_a_gateway"),
        (socket_server("hello", None), NotAGateway, "not_a_gateway"),
        (socket_server("hello", "turnwire.v1.json"), NotAGateway, "not_a_gateway"),
        (socket_server('{"type":"welcome"}', "turnwire.v1.json"), NotAGateway, "not_a_gateway"),
        (socket_server(None, "turnwire.v1.json"), ConnectFailed, "unreachable"),
        (socket_server(ready, "turnwire.v1.json"), ProtocolMismatch, "protocol_mismatch"),
        (socket_server(None, None, process_request=future), ProtocolMismatch, "protocol_mismatch"),
    ]
    for server, kind, code in servers:
        async with server as url:
            error = await refused(url, open_timeout=1.5)
            assert isinstance(error, kind), (url, error)
            assert error.code == code
    async with plain_server(b"") as url:
        pass
    error = await refused(url)
    assert (error.code, error.retryable) == ("unreachable", True)
    assert (await refused("ws://no-such-host.invalid")).code == "unreachable"
    certificate = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certfile, certificate.keyfile)
    async with socket_server(ready.replace("v9", "v1"), "turnwire.v1.json", ssl=context) as url:
        secure = url.replace("ws:", "wss:")
        for transport in ("socket", "http"):
            assert isinstance(await refused(secure, transport=transport), CertificateUntrusted)
        async with connect(secure, ssl=certificate.context) as gateway:
            assert gateway.state.state == "live"
        assert isinstance(await refused(url, open_timeout=1.5), ConnectFailed)
    async with plain_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        assert isinstance(await refused(url.replace("ws:", "wss:")), NotAGateway)
    gc.collect()
    assert _own_tasks() == set()


async def test_programs_that_end_badly_end_quietly(tmp_path: Path) -> None:
    """A closed loop, a fork, another thread, a forgotten gateway and cancelled tasks get typed errors, and nothing is
    written to stderr: no task is lost, no exception is unretrieved, no socket is left open."""
    async with gateway_process(tmp_path, {"TURNWIRE_DRAIN_S": "0.2"}) as gateway:
        ended = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-W", "error", "-m", "tests.client_cases.python_endings", gateway.url],
            capture_output=True,
            text=True,
            timeout=90,
            cwd=ROOT,
            env={**clean_environment({}), "PYTHONPATH": f"{ROOT}:{ROOT / 'clients' / 'python'}"},
            check=False,
        )
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == [
        "closed loop socket wrong_loop wrong_loop wrong_loop",
        "closed loop http wrong_loop wrong_loop wrong_loop",
        "forgotten loop",
        "no close",
        "forgotten",
        "fork wrong_process wrong_process",
        "thread wrong_loop wrong_loop",
        "cancelled task connection_closed",
    ]
    assert ended.returncode == 0


async def test_a_token_that_expired_while_the_laptop_slept(tmp_path: Path) -> None:
    """A function is asked for a fresh token, and the turn continues. A text that has expired ends in a typed error, and
    so do the turns."""
    settings = {
        "TURNWIRE_AUTH": "jwt",
        "TURNWIRE_JWT_SECRET": SECRET,
        "TURNWIRE_JWT_LEEWAY_S": "0",
        "TURNWIRE_AUTH_WARNING_S": "0.5",
        "TURNWIRE_AUTH_GRACE_S": "0.5",
    }
    async with (
        gateway_process(tmp_path, settings) as process,
        fault_proxy(int(process.url.rpartition(":")[2])) as proxy,
    ):
        url = f"ws://127.0.0.1:{proxy.port}"
        assert (await refused(url, token="nonsense")).code == "unauthenticated"
        assert isinstance(await refused(url, token=lambda: token(exp=int(time.time()) - 60)), Unauthenticated)
        given: list[str] = []

        async def fresh() -> str:
            await asyncio.sleep(0)
            given.append(token(exp=int(time.time()) + (3 if not given else 600)))
            return given[-1]

        expired = token(exp=int(time.time()) + 3)
        async with connect(url, token=fresh) as renewing, connect(url, token=expired) as expiring:
            params = {"demo": {"rate": 10, "tokens": 50}}
            turns = renewing.start("Hi", params=params), expiring.start("Hi", params=params)
            for turn in turns:
                await turn.accepted()
            proxy.refuse()  # the lid closes
            await asyncio.sleep(4)
            proxy.restore()
            message = await turns[0]
            assert message.status == "completed"
            assert len(given) >= 2
            with pytest.raises(Unauthenticated):
                await turns[1]
            with pytest.raises(Unauthenticated):
                await expiring.models()
            assert expiring.state.state == "closed"

        def broken() -> str:
            raise LookupError("no keyring")

        error = await refused(url, token=broken)
        assert (error.code, type(error.__cause__)) == ("credential_failed", LookupError)


async def test_an_exception_in_a_callback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The turn is cancelled and fails with `CallbackFailed`; `on_error` gets it; other turns continue."""
    async with gateway_process(tmp_path, {}) as process, connect(process.url) as gateway:
        errors: list[TurnwireError] = []
        chunks: list[str] = []
        done: asyncio.Queue[Message] = asyncio.Queue()

        def fails(text: str) -> None:
            raise ValueError("can't draw")

        async def collect(text: str) -> None:
            await asyncio.sleep(0)
            chunks.append(text)

        slow = {"input": "Hi", "params": {"demo": {"rate": 20, "tokens": 400}}}
        bad = gateway.send(slow, on_chunk=fails, on_error=errors.append)
        good = gateway.send({"input": "Hi", "params": demo("All is well.")}, on_chunk=collect, on_complete=done.put)
        with caplog.at_level(logging.CRITICAL, "turnwire.client"), pytest.raises(CallbackFailed) as raised:
            await bad
        assert isinstance(raised.value.__cause__, ValueError)
        assert errors == [raised.value]
        message = await good
        assert (await done.get()).text == "".join(chunks) == message.text == "All is well."

        def fails_late(message: Message) -> None:
            raise KeyError("db")

        with caplog.at_level(logging.CRITICAL, "turnwire.client"):
            late = gateway.send({"input": "Hi", "params": demo("x")}, on_complete=fails_late)
            await until(lambda: isinstance(late.failure, CallbackFailed))
        with pytest.raises(CallbackFailed):
            await late
        failed = gateway.send({"input": "Hi", "params": demo(fail="before")}, on_error=errors.append)
        with pytest.raises(TurnFailed):
            await failed
        await until(lambda: len(errors) == 2)
        record = await gateway.get_turn(bad.id)
        assert record.status == "cancelled"

        # A connection that is closed waits for callbacks, and tells those whose turns haven't ended.
        saved: list[str] = []

        async def save(message: Message) -> None:
            await asyncio.sleep(0.05)
            saved.append(message.text)

        async with connect(process.url) as short:
            await short.send({"input": "Hi", "params": demo("Saved.")}, on_complete=save)
            cut = short.send(slow, on_error=errors.append)
        assert saved == ["Saved."]
        assert isinstance(errors[-1], ConnectionClosed)
        assert errors[-1] is cut.failure


async def test_a_turn_continues_over_drops_of_the_socket(tmp_path: Path) -> None:
    """Sockets that break or hang are opened again. The events are contiguous (law 1), and the text is complete."""
    async with (
        gateway_process(tmp_path, {"TURNWIRE_HEARTBEAT_S": "0.3"}) as process,
        fault_proxy(int(process.url.rpartition(":")[2])) as proxy,
        connect(f"http://127.0.0.1:{proxy.port}", codec="msgpack") as gateway,
        connect(process.url) as other,
    ):
        conversation = await gateway.create_conversation("c1", title="Drops")
        await conversation.attach()
        arrivals = conversation.events()
        turn = conversation.start("Hi", params={"demo": {"rate": 20, "tokens": 60}})
        seen = 0
        drops = 0
        text = ""
        async for event in turn:
            if isinstance(event, TurnDelta):
                assert event.seq is not None
                assert (event.seq - 1 if event.after is None else event.after) == seen
                text += event.text or ""
            seen = event.seq or seen
            if seen > 10 * (drops + 1) and drops < 3:
                drops += 1
                await _break(proxy, hangs=drops == 2)
        message = await turn
        assert message.text == text == (await gateway.get_turn(turn.id)).message.text  # type: ignore[union-attr]
        assert gateway.openings == 4
        assert gateway.violations == []
        elsewhere = other.conversation("c1").start("And you?", params=demo("Fine."))
        await elsewhere
        async with asyncio.timeout(10):
            async for item in arrivals:
                if getattr(item, "id", None) == elsewhere.id:
                    break
        followed = [turn async for turn in other.attach(turn.id)]
        assert isinstance(followed[0], TurnStarted)
        history = await conversation.messages(limit=2).all()
        assert [entry.role for entry in history] == ["user", "assistant", "user", "assistant"]
        assert history[-1].text == "Fine."
        await gateway.feedback(history[-1], 5, "good")
        assert [record.title async for record in other.conversations(limit=1)] == ["Drops"]


async def test_http_where_no_websocket_gets_through(tmp_path: Path) -> None:
    """A proxy that refuses WebSockets: everything but attaching works over HTTP, also a stream that breaks off."""
    async with (
        gateway_process(tmp_path, {}) as process,
        fault_proxy(int(process.url.rpartition(":")[2])) as inner,
        upgrade_refuser(inner.port) as url,
        upgrade_refuser(inner.port, hangs=True) as silent,
        connect(url) as gateway,
        connect(silent, open_timeout=0.5) as second,
    ):
        assert (gateway.transport, second.transport) == ("http", "http")
        cancelled = second.start("Hi", params={"demo": {"rate": 20, "tokens": 400}})
        assert await cancelled.cancel("at once") == "cancelled"
        assert (await cancelled).reason == "at once"
        controller = AbortController()
        turn = gateway.start("Hi", params={"demo": {"rate": 20, "tokens": 40}})
        aborted = gateway.start("Hi", params={"demo": {"rate": 20, "tokens": 400}}, signal=controller.signal)
        text = ""
        async for piece in turn.text():
            text += piece
            if len(text) > 30 and inner.port and not controller.signal.aborted:
                controller.abort("enough")
                assert (await aborted).reason == "enough"
                inner.refuse()
                await asyncio.sleep(0.1)
                inner.restore()
        message = await turn
        assert message.text == text == (await gateway.get_turn(turn.id)).message.text  # type: ignore[union-attr]
        assert message.status == "completed"
        with pytest.raises(TurnwireError, match="WebSocket") as raised:
            await gateway.conversation(str(message.conversation)).attach()
        assert raised.value.code == "unsupported"
        with pytest.raises(TurnwireError) as missing:
            await gateway.attach("nothing")
        assert missing.value.code == "not_found"
        assert (await gateway.models()).default == "demo"
        assert await gateway.ping() > 0
        assert (await refused(url, transport="socket")).code == "websocket_blocked"
    with pytest.raises(ConnectionClosed):
        gateway.start("Hi")


async def test_attaching_at_the_ending(tmp_path: Path) -> None:
    """No event follows the ending, so attaching there is an error. The event before it is followed by the ending."""
    async with gateway_process(tmp_path, {}) as process:
        for transport in ("socket", "http"):
            async with connect(process.url, transport=transport) as gateway, asyncio.timeout(20):
                turn = gateway.start("Hi", params=demo("All."))
                message = await turn
                epoch, seq = turn.position.epoch, turn.position.seq
                with pytest.raises(TurnwireError) as gone:
                    await gateway.attach(turn.id, epoch=epoch, after=seq)
                assert gone.value.code == "gone"
                assert gone.value.stored_message == (message.id if transport == "socket" else None)
                assert (await gateway.attach(turn.id, epoch=epoch, after=seq - 1)).status == "completed"


async def test_a_first_event_that_arrives_twice(tmp_path: Path) -> None:
    """It was on its way to an attached conversation when the turn was attached from its start: the answer begins again."""
    started = {"type": "turn.started", "turn": "t", "seq": 1, "epoch": 7, "status": "running", "conversation": "c"}
    started |= {"model": "demo", "input": None, "message": "m", "parent": None}
    attached = {"t": {"conversation": "c", "status": "running", "epoch": 7, "from": 0}}
    ending = {"finish_reason": "stop", "usage": None, "cost": None, "message": "m"}
    async with client_stage(tmp_path) as stage:
        answer = {"type": "result", "id": "1", "result": {"turns": attached}}
        steps: list[dict[str, Any]] = [{"ready": {}}, {"expect": "turn.attach"}]
        steps += [{"send": frame} for frame in (started, answer, started)]
        steps.append({"send": {"type": "turn.part", "turn": "t", "seq": 2, "part": 0, "kind": "text", "text": "All."}})
        steps.append({"send": {"type": "turn.completed", "turn": "t", "seq": 3, **ending}})
        async with (
            connect((await stage.do_scripted([steps]))["url"], transport="socket") as gateway,
            asyncio.timeout(20),
        ):
            turn = gateway.attach("t")
            kinds = [event.type async for event in turn]
            assert kinds == ["turn.started", "turn.reset", "turn.started", "turn.part", "turn.completed"]
            assert (await turn).text == "All."
            assert gateway.violations == []


async def test_websockets_that_are_blocked_later(tmp_path: Path) -> None:
    """After a move to a network without WebSockets, what runs and what waits goes on over HTTP."""
    allowed = asyncio.Event()
    allowed.set()
    async with (
        gateway_process(tmp_path, {}) as process,
        fault_proxy(int(process.url.rpartition(":")[2])) as inner,
        upgrade_refuser(inner.port, allowed=allowed) as url,
        connect(url) as gateway,
    ):
        transports = [gateway.transport]
        turn = gateway.start("Hi", params={"demo": {"rate": 20, "tokens": 120}})
        text = turn.text()
        begun = await anext(text)
        allowed.clear()
        inner.refuse()
        await until(lambda: gateway.state.state != "live")
        inner.restore()
        waiting = gateway.start("Hello", params={"demo": {"rate": 200, "tokens": 10}})
        models = asyncio.create_task(gateway.models())
        begun += "".join([piece async for piece in text])
        assert (await models).default == "demo"
        assert [*transports, gateway.transport] == ["socket", "http"]
        for ended in (await turn, await waiting):
            stored = (await gateway.get_turn(str(ended.turn))).message
            assert ended.status == "completed"
            assert stored is not None
            assert stored.text == ended.text
        assert begun == turn.message.text
    assert len(asyncio.all_tasks()) == 1


async def test_a_token_function_that_fails_over_http(tmp_path: Path) -> None:
    """It is an error when the connection is opened, as it is for a socket."""
    async with gateway_process(tmp_path, {}) as process:
        for transport in ("socket", "http"):
            failed = await refused(process.url, transport=transport, token=lambda: os.environ["NO_SUCH_TOKEN"])
            assert failed.code == "credential_failed"


async def test_services_tools_and_large_starts(tmp_path: Path) -> None:
    """A service acts for two users on one connection. Tools are called until the model answers. An image that doesn't fit
    in a frame is sent over HTTP, and its turn arrives on the socket."""
    keys = KeyFile(tmp_path)
    service, ann = keys.add_service(), keys.add("ann")
    settings = {"TURNWIRE_AUTH": "keys", "TURNWIRE_API_KEYS": str(keys.path)}
    async with gateway_process(tmp_path, settings) as process:
        async with connect(process.url, token=service, user="ann") as for_ann:
            for_bob = for_ann.as_user("bob")
            turns = [
                gateway.start("Hi", turn="t1", params=demo(name)) for gateway, name in ((for_ann, "A"), (for_bob, "B"))
            ]
            assert [(await turn).text for turn in turns] == ["A", "B"]
            assert await for_bob.cancel(["t1", "t2"]) == {"t1": "already_ended", "t2": "not_found"}
        async with connect(process.url, token=ann) as gateway:
            assert (await gateway.get_turn("t1")).message.text == "A"  # type: ignore[union-attr]
            calls: list[str] = []

            async def weather(place: str, days: int = 1) -> dict[str, str]:
                """The weather of a place."""
                calls.append(place)
                if len(calls) == 1:
                    raise LookupError("no such place")
                return {place: "rain"}

            params = demo("Let me look.", tool={"name": "weather", "arguments": '{"place":"Oslo"}'})
            started: list[Any] = []
            with pytest.raises(TurnwireError) as raised:
                await gateway.run("Rain?", tools=[weather], params=params, max_rounds=2, on_turn=started.append)
            assert raised.value.code == "too_many_rounds"
            assert calls == ["Oslo", "Oslo"]
            results = [turn.input.parts[0] for turn in started[1:]]
            assert [(part.kind, part.output, part.error) for part in results] == [
                ("tool_result", "LookupError: no such place", True)
            ]
            message = await gateway.run("Rain?", tools=[weather], params=demo("It is dry."))
            assert message.text == "It is dry."
            image = {"kind": "image", "media_type": "image/png", "data": "iVBORw0KGgo" + "A" * 100_001}
            large = gateway.start([{"kind": "text", "text": "Look"}, image], params=demo("Seen."))
            assert (await large).text == "Seen."
            with pytest.raises(TurnwireError) as too_large:
                await gateway.request("conversation.create", title="x" * 100_000)
            assert too_large.value.code == "too_large"


async def _break(proxy: FaultProxy, *, hangs: bool) -> None:
    """Break the connections, or let them hang until the client gives them up."""
    if not hangs:
        proxy.refuse()
        await asyncio.sleep(0.05)
        proxy.restore()
        return
    proxy.hang()
    await asyncio.sleep(1.5)
    proxy.restore()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def upgrade_refuser(
    port: int, *, hangs: bool = False, allowed: asyncio.Event | None = None
) -> AsyncIterator[str]:
    """A proxy that answers 403 to a WebSocket, or lets it wait, and relays every other request. Give its URL.

    While `allowed` is set, it relays WebSockets, too.
    """

    relays: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        relays.add(task)
        task.add_done_callback(relays.discard)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"upgrade: websocket" in head.lower() and not (allowed and allowed.is_set()):
                if hangs:
                    await reader.read()
                    return
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nblocked")
                await writer.drain()
                return
            from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
            to_server.write(head)
            pump = asyncio.ensure_future(_pump(reader, to_server))
            try:
                await _pump(from_server, writer)
            finally:
                pump.cancel()
                await asyncio.gather(pump, return_exceptions=True)
                to_server.transport.abort()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in relays:
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def _own_tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if "turnwire" in repr(task.get_coro())}
