"""Clients of the peers, which need as little CPU as `client.py`: a raw WebSocket, and a raw HTTP stream."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import cast
from urllib.parse import urlsplit

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench.client import Tally

TOKEN = re.compile(rb"\d{16} ")
TOKEN_BYTES = 17


class Answer:
    """One streamed answer. `tally` counts its tokens; `first` is the time of the first one (monotonic ns)."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.first: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Process some bytes of the answer. They may end within a token."""
        buffer = self._tail + data
        end = 0
        for found in TOKEN.finditer(buffer):
            end = found.end()
        if end:
            self.tally.count(buffer[:end])
            if not self.first.done():
                self.first.set_result(time.monotonic_ns())
        self._tail = buffer[end:][-TOKEN_BYTES:]


class WebSocketPeer(WSListener):
    """One connection to `peers/fastapi_gateway.py`, with one answer at a time."""

    def __init__(self) -> None:
        self.answer: Answer | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """See `WSListener`."""
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """See `WSListener`."""
        if frame.msg_type == WSMsgType.TEXT and self.answer is not None:
            self.answer.feed(frame.get_payload_as_bytes())

    def ask(self, model: str, tally: Tally) -> Answer:
        """Send a request. Return its answer, which is updated while it streams."""
        self.answer = Answer(tally)
        self.transport.send(WSMsgType.TEXT, json.dumps({"model": model, "input": "q"}).encode())
        return self.answer

    def close(self) -> None:
        """Close the connection."""
        self.transport.disconnect()


class HttpPeer(asyncio.Protocol):
    """One connection to a Chat Completions server, with one answer at a time."""

    PATH = "/v1/chat/completions"

    def __init__(self, host: str) -> None:
        self._host = host
        self.answer: Answer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.answer is not None:
            self.answer.feed(data)

    def ask(self, model: str, tally: Tally) -> Answer:
        """Send a request. Return its answer, which is updated while it streams."""
        self.answer = Answer(tally)
        body = json.dumps(self._body(model))
        self.transport.write(
            f"POST {self.PATH} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer bench\r\n"
            "Accept: text/event-stream\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        return self.answer

    def _body(self, model: str) -> dict[str, object]:
        return {"model": model, "stream": True, "messages": [{"role": "user", "content": "q"}]}

    def close(self) -> None:
        """Close the connection."""
        self.transport.abort()


class OwnHttpPeer(HttpPeer):
    """One connection to Turnwire's own HTTP API, with one answer at a time."""

    PATH = "/v1/turns"

    def _body(self, model: str) -> dict[str, object]:
        messages = [{"role": "user", "parts": [{"kind": "text", "text": "q"}]}]
        return {"model": model, "messages": messages, "on_disconnect": "cancel"}


Peer = WebSocketPeer | HttpPeer


async def connect_socket(url: str) -> Peer:
    """Return a connection to the FastAPI gateway."""
    _, listener = await ws_connect(WebSocketPeer, url.replace("http", "ws", 1) + "/ws")
    return cast("WebSocketPeer", listener)


async def connect_http(url: str) -> Peer:
    """Return a connection to a Chat Completions server."""
    return await _connect_http(url, HttpPeer)


async def connect_own_http(url: str) -> Peer:
    """Return a connection to Turnwire's own HTTP API."""
    return await _connect_http(url, OwnHttpPeer)


async def _connect_http(url: str, kind: type[HttpPeer]) -> Peer:
    host = urlsplit(url).netloc
    name, _, port = host.partition(":")
    _, peer = await asyncio.get_running_loop().create_connection(lambda: kind(host), name, int(port))
    return peer
