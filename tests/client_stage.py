"""The gateways, proxies and scripted gateways of the browser client's tests, controlled by HTTP from Node or a
browser."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from tests.gateway_process import GatewayProcess, gateway_process
from tests.redis_process import redis_process

ROOT = Path(__file__).parent.parent
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
PAGE = "<!doctype html><meta charset=utf-8><title>client</title><link rel=icon href=data:,>"


UPGRADE = b"upgrade: websocket"
BLOCKED_ANSWER = "HTTP/1.1 {} Blocked\r\nContent-Type: text/html\r\nContent-Length: 5\r\nConnection: close\r\n\r\nNope."


class ResettingProxy:
    """A TCP proxy to a gateway. Connections are reset after a set number of the gateway's bytes, as if the network
    failed. `upgrades` says what happens to WebSockets: "pass", or "close", "hang", or the status of a refusal."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.upgrades = "pass"
        self.refused = 0
        self.cuts: list[int] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        head = b""
        if self.upgrades != "pass":
            head = await reader.read(16_384)
            if UPGRADE in head.lower():
                await self._refuse(reader, writer)
                return
        try:
            from_gateway, to_gateway = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        ends = {writer, to_gateway}
        self._writers |= ends
        cut = self.cuts.pop(0) if self.cuts else None
        to_gateway.write(head)
        async with asyncio.TaskGroup() as passing:
            to_gateway_task = passing.create_task(self._relay_requests(reader, to_gateway, writer))
            from_gateway_task = passing.create_task(_relay(from_gateway, writer, cut))
            await asyncio.wait([to_gateway_task, from_gateway_task], return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                _reset(end)
        self._writers -= ends

    async def _relay_requests(
        self, reader: asyncio.StreamReader, to_gateway: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        """Relay to the gateway. A client may ask for a WebSocket on a connection that it has used for other requests."""
        try:
            while data := await reader.read(16_384):
                if self.upgrades != "pass" and UPGRADE in data.lower():
                    await self._refuse(reader, writer)
                    return
                to_gateway.write(data)
                await to_gateway.drain()
        except OSError:
            return

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Refuse a WebSocket in the way of `upgrades`."""
        self.refused += 1
        if self.upgrades == "hang":
            self._writers.add(writer)
            await reader.read()
        elif self.upgrades != "close":
            writer.write(BLOCKED_ANSWER.format(self.upgrades).encode())
            await writer.drain()
        writer.close()

    def cut_all(self) -> None:
        """Reset every connection now."""
        for writer in self._writers:
            _reset(writer)


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: int | None) -> None:
    remaining_bytes = cut
    try:
        while data := await reader.read(1500):
            if remaining_bytes is not None:
                if len(data) >= remaining_bytes:
                    writer.write(data[:remaining_bytes])
                    await writer.drain()
                    return
                remaining_bytes -= len(data)
            writer.write(data)
            await writer.drain()
    except OSError:
        return


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and not writer.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()


class Scripted:
    """A gateway that follows a script, one list of steps for each opening, and records the frames that it receives.

    Each step is a dict with one of these keys: `ready` sends `ready` with these fields, `send` sends this frame,
    `expect` reads until a frame of this type (which `answer` or `refuse` answers), `deaf_s` reads nothing for this
    time, and `close` closes the socket with this code.
    """

    def __init__(self, openings: list[list[dict[str, Any]]]) -> None:
        self._openings = openings
        self.seen: list[dict[str, Any]] = []

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one opening."""
        opening: dict[str, Any] = {"query": dict(request.query), "frames": []}
        self.seen.append(opening)
        number = len(self.seen)
        ws = web.WebSocketResponse(protocols=("turnwire.v1.json",))
        await ws.prepare(request)
        steps = self._openings[number - 1] if number <= len(self._openings) else [{"ready": {}}]
        for step in steps:
            if ws.closed or request.transport is None or request.transport.is_closing():
                break
            await self._do(ws, step, opening, number)
        while (await self._next(ws, opening)) is not None:
            continue
        return ws

    async def _do(self, ws: web.WebSocketResponse, step: dict[str, Any], opening: dict[str, Any], number: int) -> None:
        if "ready" in step:
            limits = {"frame_bytes": 65536, "input_bytes": 262144, "turns": 64}
            known = {"protocol": "turnwire.v1", "user": "local", "default_model": "demo", "limits": limits}
            await ws.send_json(
                {"type": "ready", "connection": f"cn_{number}", "heartbeat_s": 15, **known, **step["ready"]}
            )
        elif "send" in step:
            await ws.send_json(step["send"])
        elif "expect" in step:
            while (frame := await self._next(ws, opening)) is not None and frame["type"] != step["expect"]:
                continue
            if frame is not None and "answer" in step and "id" in frame:
                await ws.send_json({"type": "result", "id": frame["id"], "result": step["answer"]})
            elif frame is not None and "refuse" in step:
                await ws.send_json({"type": "error", "id": frame["id"], "error": step["refuse"]})
        elif "deaf_s" in step:
            await asyncio.sleep(step["deaf_s"])
        elif "close" in step:
            await ws.close(code=step["close"])

    async def _next(self, ws: web.WebSocketResponse, opening: dict[str, Any]) -> dict[str, Any] | None:
        """Return the next frame. Pings are answered and skipped."""
        while True:
            message = await ws.receive()
            if message.type is not WSMsgType.TEXT:
                return None
            frame: dict[str, Any] = message.json()
            if frame["type"] != "ping":
                opening["frames"].append(frame)
                return frame
            await ws.send_json({"type": "result", "id": frame["id"], "result": {"t": 0}})


class Stage:
    """Everything that a run of the tests has started, until its end."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.url = ""
        self._folder = folder
        self._stack = stack
        self._numbers = itertools.count(1)
        self._gateways: dict[str, GatewayProcess] = {}
        self._proxies: dict[str, ResettingProxy] = {}
        self._scripted: dict[str, Scripted] = {}
        self._redis: str | None = None

    def application(self) -> web.Application:
        """Return the HTTP application that controls the stage."""
        app = web.Application()
        app.router.add_post("/stage/{what}", self._ask)
        app.router.add_get("/scripted/{name}/ws", self._serve_scripted)
        app.router.add_get("/future/v1", self._future)
        app.router.add_get("/future/ws", self._future)
        app.router.add_get("/", self._page)
        app.router.add_static("/static", ROOT / "static")
        app.router.add_static("/tests/client_library", ROOT / "tests" / "client_library")
        return app

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def _future(self, request: web.Request) -> web.Response:
        """Answer as a gateway of a later protocol."""
        about = {"name": "turnwire", "protocol": "turnwire.v9", "subprotocols": ["turnwire.v9.json"]}
        return web.json_response(about, status=200 if request.path.endswith("/v1") else 400)

    async def _serve_scripted(self, request: web.Request) -> web.WebSocketResponse:
        return await self._scripted[request.match_info["name"]].serve(request)

    async def _ask(self, request: web.Request) -> web.Response:
        arguments = await request.json()
        return web.json_response(await getattr(self, f"do_{request.match_info['what']}")(**arguments))

    async def do_gateway(
        self, settings: dict[str, str], redis: bool = False, folder: str | None = None
    ) -> dict[str, str]:
        """Start a gateway. If another gateway had the same `folder`, the new one uses its store."""
        name = f"g{next(self._numbers)}"
        data_folder = self._folder / (folder or name)
        data_folder.mkdir(exist_ok=True)
        if redis and self._redis is None:
            self._redis = self._stack.enter_context(redis_process(self._folder / "redis")).url
        environment = {"TURNWIRE_ALLOWED_ORIGINS": self.url, **settings}
        running = gateway_process(data_folder, environment, store=self._redis if redis else None, allow_kill=True)
        self._gateways[name] = await self._stack.enter_async_context(running)
        return {"name": name, "url": self._gateways[name].ws_url}

    async def do_stop(self, name: str, kill: bool) -> dict[str, str]:
        """Kill a gateway with SIGKILL and wait for its end, or only send it SIGTERM, after which it drains."""
        gateway = self._gateways[name]
        if kill:
            gateway.process.kill()
            await gateway.wait()
        else:
            gateway.terminate()
        return {}

    async def do_ended(self, name: str) -> dict[str, str]:
        """Wait until a stopped gateway has ended. Then the next one can use its store."""
        await self._gateways[name].wait()
        return {}

    async def do_proxy(self, gateway: str) -> dict[str, str]:
        """Start a proxy to a gateway."""
        name = f"w{next(self._numbers)}"
        proxy = self._proxies[name] = ResettingProxy(_port(self._gateways[gateway]))
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        self._stack.callback(proxy.cut_all)
        self._stack.callback(server.close)
        return {"name": name, "url": f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"}

    async def do_retarget(self, name: str, gateway: str) -> dict[str, str]:
        """Let new connections of the proxy go to another gateway."""
        self._proxies[name].target = _port(self._gateways[gateway])
        return {}

    async def do_cut(self, name: str, cuts: list[int]) -> dict[str, str]:
        """Cut each of the next connections after the number of bytes in `cuts`; if it is empty, cut all connections now."""
        self._proxies[name].cuts += cuts
        if not cuts:
            self._proxies[name].cut_all()
        return {}

    async def do_block(self, name: str, upgrades: str) -> dict[str, int]:
        """Say what the proxy does to new WebSockets, and return how many it has refused."""
        self._proxies[name].upgrades = upgrades
        return {"refused": self._proxies[name].refused}

    async def do_scripted(self, openings: list[list[dict[str, Any]]]) -> dict[str, str]:
        """Start a gateway that follows a script."""
        name = f"s{next(self._numbers)}"
        self._scripted[name] = Scripted(openings)
        return {"name": name, "url": f"{self.url.replace('http', 'ws', 1)}/scripted/{name}/ws"}

    async def do_seen(self, name: str) -> list[dict[str, Any]]:
        """Return the query and the received frames of each opening of a scripted gateway."""
        return self._scripted[name].seen


def _port(gateway: GatewayProcess) -> int:
    return int(gateway.url.rpartition(":")[2])


@asynccontextmanager
async def client_stage(folder: Path) -> AsyncIterator[Stage]:
    """Serve a stage on a free port."""
    async with AsyncExitStack() as stack:
        stage = Stage(folder, stack)
        runner = web.AppRunner(stage.application(), shutdown_timeout=1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        stage.url = f"http://{host}:{port}"
        yield stage
