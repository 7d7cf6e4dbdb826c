"""A real local provider: an HTTP server that plays scripted or recorded streams and notices disconnects.

It answers POST requests whose path ends in one of `_PATHS`. It keeps background responses: GET …/responses/ID plays
such a response again, POST …/responses/ID/cancel removes it. It runs in the test's own event loop. The gateway under
test may be another process that is configured with `openai_url` or `anthropic_url`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
import ssl
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, cast
from urllib.parse import parse_qsl

import httpx2

Write = Literal["event", "whole", "piece"]
Cut = Literal["fin", "rst"]

RESPONSE = "resp_1"
"""The id of every Responses API response here."""
_PATHS = (
    "/chat/completions",
    "/responses",
    "/messages",
    "/invoke-with-response-stream",
    ":streamRawPredict",
    "/token",
)


@dataclass(frozen=True)
class Script:
    """One response: the blocks of its body, and how they are sent."""

    blocks: tuple[bytes, ...]
    write: Write = "event"
    """One event per write, everything in one write, or pieces of `piece` bytes that may split events."""
    piece: int = 1
    rate: float = 0
    """Blocks per second. 0 sends them as fast as possible."""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("content-type", "text/event-stream"),)
    delay_s: float = 0
    """The delay before the status line."""
    cut: int | None = None
    """Disconnect after this number of body bytes."""
    cut_by: Cut = "fin"
    stall_after: int | None = None
    """Stop sending after this number of blocks, and keep the connection open."""
    comments: bool = False
    """Send a keep-alive comment before every block."""
    crlf: bool = False
    began: float | None = None
    """When the first block was produced, on the event loop's clock. Blocks that are already due are sent at once."""
    skip: int = 0
    """The number of blocks to leave out at the start."""
    chunked: bool = True
    """Use chunked transfer encoding. If false, the body ends when the connection is closed."""
    gate: asyncio.Semaphore | None = None
    """Acquired before each block is sent: a test releases them one by one."""

    def body(self) -> list[bytes]:
        """Return the body in the pieces in which it is written."""
        blocks: Iterable[bytes] = self.blocks[self.skip :]
        if self.comments:
            blocks = [b": keep-alive\n\n" + block for block in blocks]
        if self.crlf:
            blocks = [block.replace(b"\n", b"\r\n") for block in blocks]
        if self.write == "event":
            return list(blocks)
        whole = b"".join(blocks)
        if self.write == "whole":
            return [whole]
        return [whole[at : at + self.piece] for at in range(0, len(whole), self.piece)]

    def replace(self, **changes: Any) -> Script:
        """Return a copy with these fields changed."""
        return dataclasses.replace(self, **changes)


def sse(data: object, event: str | None = None) -> bytes:
    """Return one encoded event. A string is sent as is, any other value as JSON."""
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


def chat(*deltas: dict[str, Any] | str, finish: str | None = "stop", usage: dict[str, Any] | None = None) -> Script:
    """Return a Chat Completions stream of these deltas. A string is a delta with that content."""
    chunks: list[dict[str, Any]] = [
        {
            "id": "c1",
            "choices": [{"index": 0, "delta": {"content": delta} if isinstance(delta, str) else delta}],
        }
        for delta in deltas
    ]
    if finish is not None:
        chunks.append({"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage is not None:
        chunks.append({"id": "c1", "choices": [], "usage": usage})
    return Script((*(sse(chunk) for chunk in chunks), sse("[DONE]")))


def messages(*texts: str, stop: str = "end_turn") -> Script:
    """Return an Anthropic Messages stream with one text block."""
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}
    events: list[dict[str, Any]] = [
        start,
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}} for text in texts),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": len(texts)}},
        {"type": "message_stop"},
    ]
    return Script(tuple(sse(event, event["type"]) for event in events))


def responses(*texts: str, status: str = "completed") -> Script:
    """Return a Responses stream of one message, with sequence numbers."""
    at = {"output_index": 0, "content_index": 0, "item_id": "msg_1"}
    usage = {"input_tokens": 5, "output_tokens": len(texts)}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": RESPONSE, "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "msg_1"}},
        {"type": "response.content_part.added", **at, "part": {"type": "output_text", "text": ""}},
        *({"type": "response.output_text.delta", **at, "delta": text} for text in texts),
        {"type": "response.output_text.done", **at, "text": "".join(texts)},
        {"type": f"response.{status}", "response": {"id": RESPONSE, "status": status, "usage": usage}},
    ]
    return Script(tuple(sse(event | {"sequence_number": n}, event["type"]) for n, event in enumerate(events)))


def error_response(status: int, body: object, **headers: str) -> Script:
    """Return a response with this status and a JSON body. A string body is sent as is."""
    raw = body if isinstance(body, str) else json.dumps(body)
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Script((raw.encode(),), status=status, headers=(("content-type", "application/json"), *named))


def recorded(path: Path, api: str) -> Script:
    """Load a stream from a file of raw SSE, or from a `*.chunks.txt` with one JSON object per line.

    Each object becomes an event as `api` sends it.
    """
    raw = path.read_bytes()
    if not path.name.endswith(".chunks.txt"):
        return Script(tuple(block + b"\n\n" for block in raw.strip(b"\n").split(b"\n\n")))
    lines = [line for line in raw.decode("utf-8").split("\n") if line.strip()]
    if api in ("anthropic", "openai-responses"):
        return Script(tuple(sse(line, json.loads(line)["type"]) for line in lines))
    return Script((*(sse(line) for line in lines), sse("[DONE]")))


async def post(client: httpx2.AsyncClient, upstream: Upstream, **more: Any) -> httpx2.Response:
    """Send a request to the upstream with this client, and return the response with its body unread."""
    request = client.build_request("POST", upstream.openai_url + "/chat/completions", json={"n": 1}, **more)
    return await client.send(request, stream=True)


@dataclass(eq=False)
class ReceivedRequest:
    """One received request."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the connection is closed before the response is complete."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the response is complete."""
    method: str = "POST"
    connection: int = 0
    """The number of its connection. Requests on the same connection share it."""


class Upstream:
    """The server; enter it with `async with`. `requests` holds every request in order. With `tls`, it serves HTTPS."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[ReceivedRequest] = []
        self.connections = 0
        self._scripts: list[Script] = [chat("Hello", ".")]
        self._background: dict[str, Script] = {}
        """The background responses by id."""
        self.cancelled: list[str] = []
        """The ids of the cancelled background responses."""
        self._arrived = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        playing = [connection.hang_up() for connection in list(self._open)]
        await asyncio.gather(*filter(None, playing), return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Its base URL, without a path."""
        assert self._server is not None
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def openai_url(self) -> str:
        """The value for OPENAI_BASE_URL and similar variables."""
        return self.url + "/v1"

    @property
    def anthropic_url(self) -> str:
        """The value for ANTHROPIC_BASE_URL."""
        return self.url

    def play(self, *scripts: Script) -> None:
        """Answer the next requests with these scripts, one per request. The last one is repeated."""
        self._scripts = list(scripts)

    async def wait_for_request(self, number: int = 1, deadline_s: float = 20) -> ReceivedRequest:
        """Wait for request number `number` (from 1), and return it."""
        async with asyncio.timeout(deadline_s):
            while len(self.requests) < number:
                self._arrived.clear()
                await self._arrived.wait()
        return self.requests[number - 1]

    def _script(self, received: ReceivedRequest) -> Script:
        self.requests.append(received)
        self._arrived.set()
        path, _, query = received.path.partition("?")
        if (background := self._background_answer(received.method, path, query)) is not None:
            return background
        if received.method != "POST" or not path.endswith(_PATHS):
            return error_response(404, "<html>Not Found</html>")
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        if received.body.get("background"):
            script = script.replace(began=asyncio.get_running_loop().time())
            self._background[RESPONSE] = script
        return script

    def _background_answer(self, method: str, path: str, query: str) -> Script | None:
        """Return the script for a request about a background response, or None if there is no such response."""
        name = path.split("/responses/")[-1]
        if method == "GET" and name in self._background:
            after = dict(parse_qsl(query)).get("starting_after")
            script = self._background[name]
            return script if after is None else script.replace(skip=int(after) + 1)
        if name.endswith("/cancel") and (name := name.removesuffix("/cancel")) in self._background:
            del self._background[name]
            self.cancelled.append(name)
            return error_response(200, {"id": name, "object": "response", "status": "cancelled", "output": []})
        return None


class _Connection(asyncio.Protocol):
    """One connection. It reads while it responds, so that it notices a disconnect at once."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._received = bytearray()
        self._request: ReceivedRequest | None = None
        self._playing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports aren't subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._upstream._open.add(self)
        self._upstream.connections += 1
        self._number = self._upstream.connections

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not end:
            return
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._received = bytearray(rest[length:])
        method, path = line.split()[:2]
        self._request = ReceivedRequest(
            path, headers, _body(headers, rest[:length]), method=method, connection=self._number
        )
        self._playing = asyncio.get_running_loop().create_task(self._play(self._request))

    def connection_lost(self, error: Exception | None) -> None:
        self._upstream._open.discard(self)
        if self._request is not None and not self._request.answered.is_set():
            self._request.disconnected.set()
        if self._playing is not None:
            self._playing.cancel()

    def hang_up(self) -> asyncio.Task[None] | None:
        """Abort the connection, and return the task that plays the script, which the caller awaits."""
        self._transport.abort()
        return self._playing

    async def _play(self, received: ReceivedRequest) -> None:
        script = self._upstream._script(received)
        await asyncio.sleep(script.delay_s)
        framing = "transfer-encoding: chunked" if script.chunked else "connection: close"
        lines = [
            f"HTTP/1.1 {script.status} X",
            framing,
            *(f"{name}: {value}" for name, value in script.headers),
        ]
        self._transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        with contextlib.suppress(_CutOffError):
            await self._send(script)
            if script.chunked:
                self._transport.write(b"0\r\n\r\n")
            else:
                self._transport.close()
            received.answered.set()

    async def _send(self, script: Script) -> None:
        loop = asyncio.get_running_loop()
        start, sent = loop.time() if script.began is None else script.began, 0
        for number, piece in enumerate(script.body(), script.skip):
            if number == script.stall_after:
                await asyncio.Event().wait()
            await asyncio.sleep(max(0.0, start + number / script.rate - loop.time()) if script.rate else 0)
            if script.gate is not None:
                await script.gate.acquire()
            left = None if script.cut is None else script.cut - sent
            self._write(piece[:left], script)
            sent += len(piece)
            if left is not None and left <= len(piece):
                await self._hang_up_by(script.cut_by)

    def _write(self, piece: bytes, script: Script) -> None:
        if piece:
            self._transport.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" if script.chunked else piece)

    async def _hang_up_by(self, cut: Cut) -> None:
        if cut == "rst":
            # Let the sent data arrive first, because a reset discards what the client hasn't read yet.
            await asyncio.sleep(0.01)
            raw: socket.socket = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()
        raise _CutOffError


def _body(headers: dict[str, str], raw: bytes) -> dict[str, Any]:
    """Return the parsed body of the request. A body that isn't JSON is returned as text."""
    if "json" in headers.get("content-type", ""):
        body: dict[str, Any] = json.loads(raw or b"{}")
        return body
    return {"text": raw.decode("utf-8", "replace")}


class _CutOffError(Exception):
    """Raised where the script says to disconnect."""
