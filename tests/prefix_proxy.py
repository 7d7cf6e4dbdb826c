"""A small reverse proxy for HTTP and WebSockets that removes a prefix from each path, or adds one.

It forwards no request body. Of the request's headers, it forwards only `FORWARDED_HEADERS` and the offered
subprotocols.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web

from tests.web_server import web_server

HOP_BY_HOP = {"transfer-encoding", "content-length", "connection"}
FORWARDED_HEADERS = ("Host", "Origin", "Authorization", "Accept-Encoding")
SUBPROTOCOLS = ("turnwire.v1.json", "turnwire.v1.msgpack")


async def _relay(
    source: ClientWebSocketResponse | web.WebSocketResponse, sink: ClientWebSocketResponse | web.WebSocketResponse
) -> None:
    async for message in source:
        if message.type is WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await sink.send_bytes(message.data)
    await sink.close()


class _Proxy:
    def __init__(self, session: ClientSession, target: str, strip: str, prepend: str) -> None:
        self._session = session
        self._target = target
        self._strip = strip
        self._prepend = prepend

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if not request.path.startswith(f"{self._strip}/"):
            raise web.HTTPNotFound
        url = f"{self._target}{self._prepend}{request.path_qs.removeprefix(self._strip)}"
        # The gateway compares Origin and Host, so the browser's Host is passed on.
        headers = {name: request.headers[name] for name in FORWARDED_HEADERS if name in request.headers}
        if request.headers.get("Upgrade") == "websocket":
            return await self._socket(request, url, headers)
        async with self._session.request(request.method, url, headers=headers, allow_redirects=False) as answer:
            headers_out = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            return web.Response(status=answer.status, headers=headers_out, body=await answer.read())

    async def _socket(self, request: web.Request, url: str, headers: dict[str, str]) -> web.WebSocketResponse:
        offered = request.headers.get("Sec-WebSocket-Protocol", "").replace(" ", "").split(",")
        async with self._session.ws_connect(url, headers=headers, protocols=offered) as gateway_socket:
            client_socket = web.WebSocketResponse(protocols=SUBPROTOCOLS)
            await client_socket.prepare(request)
            async with asyncio.TaskGroup() as both:
                both.create_task(_relay(client_socket, gateway_socket))
                both.create_task(_relay(gateway_socket, client_socket))
            return client_socket


@asynccontextmanager
async def prefix_proxy(target: str, *, strip: str = "", prepend: str = "") -> AsyncIterator[str]:
    """Run a proxy to `target` that removes `strip` from each path and prepends `prepend`, and yield its URL."""
    async with ClientSession(auto_decompress=False) as session:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", _Proxy(session, target, strip, prepend).serve)
        async with web_server(app, shutdown_timeout_s=1) as origin:
            yield origin
