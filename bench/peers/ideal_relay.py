"""The ideal relay: it reads the upstream's stream and writes one frame for each chunk, on the loop that the gateway uses.

It has no protocol beyond what `bench/client.py` needs to start and stop turns, no store, no limits and no checks. Its cost is
the bound for any gateway in this language.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec
import uvloop
from msgspec import Struct
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Event
from websockets.server import ServerProtocol

from gateway.transport.uvicorn_websocket import TEXT, encode_frame

BACKLOG: Final = 4096
_END_OF_HEAD: Final = b"\r\n\r\n"


class _Delta(Struct, gc=False):
    content: str = ""


class _Choice(Struct, gc=False):
    delta: _Delta


class _Chunk(Struct, gc=False):
    choices: list[_Choice]


class _Frame(Struct, gc=False, tag_field="type", tag="turn.delta"):
    turn: str
    seq: int
    part: int
    text: str


class _Asked(Struct):
    type: str
    id: str
    turn: str = ""
    model: str = ""
    input: str = ""


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_asked = msgspec.json.Decoder(_Asked).decode
_encode = msgspec.json.Encoder().encode


class Answer(asyncio.Protocol):
    """One answer of the upstream, on a connection of its own. Each read of it is one frame to the client."""

    live: Final[set[Answer]] = set()

    def __init__(self, request: _Asked, client: asyncio.Transport, host: str) -> None:
        self._request = request
        self._client = client
        self._host = host
        self._seq = 0
        self._is_in_head = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request. See `asyncio.Protocol`."""
        self.transport = cast("asyncio.Transport", transport)
        self.live.add(self)
        asked = self._request
        body = _encode({"model": asked.model.removeprefix("openai/"), "messages": [{"content": asked.input}]})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.live.discard(self)

    def data_received(self, data: bytes) -> None:
        """Pass on the text of the chunks in `data`, which are never cut. See `asyncio.Protocol`."""
        if self._is_in_head:
            _, _, data = data.partition(_END_OF_HEAD)
            self._is_in_head = False
        pieces = data.split(b"data: ")
        text = "".join([_decode_chunk(piece[: piece.index(b"\n")]).choices[0].delta.content for piece in pieces[1:]])
        if text:
            self._seq += 1
            self._client.write(encode_frame(TEXT, _encode(_Frame(self._request.turn, self._seq, 0, text))))


class Client(asyncio.Protocol):
    """One WebSocket of a client. It starts turns, and stops those of all clients."""

    def __init__(self, upstream: str) -> None:
        self._host = urlsplit(upstream).netloc
        self._protocol = ServerProtocol()
        self._tasks: set[asyncio.Task[Any]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Process the opening, or requests. See `asyncio.Protocol`."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            self._process(event)
        for piece in self._protocol.data_to_send():
            self._transport.write(piece)
        if self._protocol.close_expected():
            self._transport.close()

    def _process(self, event: Event) -> None:
        if isinstance(event, Request):
            self._protocol.send_response(self._protocol.accept(event))
            for piece in self._protocol.data_to_send():
                self._transport.write(piece)
            self._send({"type": "ready"})
        elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
            request = _decode_asked(event.data)
            if request.type == "turn.start":
                task = asyncio.ensure_future(self._start(request))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                return
            for answer in list(Answer.live):
                answer.transport.abort()
            self._send({"type": "result", "id": request.id})

    async def _start(self, request: _Asked) -> None:
        name, _, port = self._host.partition(":")
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: Answer(request, self._transport, self._host), name, int(port))
        self._send({"type": "result", "id": request.id})

    def _send(self, frame: dict[str, str]) -> None:
        self._transport.write(encode_frame(TEXT, _encode(frame)))


async def _serve() -> None:
    upstream = os.environ["OPENAI_BASE_URL"]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(upstream), "127.0.0.1", 0, backlog=BACKLOG)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
