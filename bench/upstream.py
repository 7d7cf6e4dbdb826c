"""A provider that needs much less CPU than the gateway: Chat Completions over raw asyncio, paced, one chunk per token.

The model's name sets the pace: `paced-50-400` sends 400 tokens at 50 per second. The text of a token is the time at which
it was written, in ns of the machine's monotonic clock, so that its reader can compute the latency. `prose-50-400` sends
English text instead. `GET /stats` returns the numbers of sent tokens and of open streams, and the time at which the peer closed
each unfinished stream, by the text of its input. `GET /stop` breaks all streams off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import time
from typing import Final, cast

import uvloop

from bench.texts import pieces

TICK_S: Final = 0.001
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_MODEL = re.compile(r"(paced|prose)-(\d+)-(\d+)$")
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    b"cache-control: no-store\r\n\r\n"
)
_CHUNK = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1795247464,"model":"paced",'
    b'"choices":[{"index":0,"delta":{"content":%b},"finish_reason":null}]}\n\n'
)
_LAST = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1795247464,"model":"paced",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1795247464,"model":"paced",'
    b'"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":%d,"total_tokens":%d}}\n\ndata: [DONE]\n\n'
)


def _chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


class Pacer:
    """The writer of the tokens of all streams. Each stream has its own interval and phase."""

    def __init__(self) -> None:
        self.sent = 0
        self.streaming = 0
        self.connections: set[Stream] = set()
        self.closed: dict[str, int] = {}
        self._slots: dict[int, list[Stream]] = {}
        self._tick = 0

    def add(self, stream: Stream) -> None:
        """Write the first token now, and the next ones in intervals with a random phase.

        The phases keep streams that start at the same time from writing at the same time.
        """
        self.streaming += 1
        self.step(stream, random.randint(1, stream.interval_ticks))

    def step(self, stream: Stream, next_ticks: int) -> None:
        """Write a token. The next one follows after `next_ticks`."""
        if stream.gone:
            self.streaming -= 1
            return
        self.sent += 1
        if stream.advance():
            self.streaming -= 1
            return
        self._slots.setdefault(self._tick + next_ticks, []).append(stream)

    def stop(self) -> None:
        """Break off all streams."""
        for stream in self.connections:
            stream.abort()

    async def run(self) -> None:
        """Run until cancelled. A late tick catches up."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        while True:
            due = int((loop.time() - start) / TICK_S)
            while self._tick < due:
                self._tick += 1
                for stream in self._slots.pop(self._tick, ()):
                    self.step(stream, stream.interval_ticks)
            await asyncio.sleep(TICK_S)


class Stream(asyncio.Protocol):
    """One connection, with one answer at a time."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._buffer = b""
        self._left = self._tokens = 0
        self._input: str | None = None
        self._prose: list[str] = []
        self.interval_ticks = 1
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._pacer.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.gone = True
        self._pacer.connections.discard(self)
        if self._input is not None:
            self._pacer.closed[self._input] = time.monotonic_ns()

    def data_received(self, data: bytes) -> None:
        """Process a request once it is complete."""
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        found = _LENGTH.search(head)
        length = int(found.group(1)) if found else 0
        if len(body) < length:
            return
        self._buffer = body[length:]
        if head.startswith(b"GET "):
            if head.startswith(b"GET /stop "):
                self._pacer.stop()
            self._answer_stats()
        else:
            self._begin(json.loads(body[:length]))

    def _begin(self, request: dict[str, object]) -> None:
        paced = _MODEL.search(str(request["model"]))
        if paced is None:
            self._transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        self.interval_ticks = max(1, round(1 / int(paced[2]) / TICK_S))
        self._left = self._tokens = int(paced[3])
        self._prose = pieces(self._tokens)[::-1] if paced[1] == "prose" else []
        messages = request["messages"]
        assert isinstance(messages, list)
        self._input = str(messages[-1]["content"])
        self._transport.write(_HEAD)
        self._pacer.add(self)

    def abort(self) -> None:
        """Close the connection if it has an unfinished answer."""
        if self._input is not None:
            self._transport.abort()

    def advance(self) -> bool:
        """Write the next token, and with the last one the end. Return whether it was the last one."""
        self._left -= 1
        token = json.dumps(self._prose.pop()).encode() if self._prose else b'"%016d "' % time.monotonic_ns()
        chunk = _chunked(_CHUNK % token)
        if self._left > 0:
            self._transport.write(chunk)
            return False
        last = _chunked(_LAST % (self._tokens, self._tokens + 10)) + b"0\r\n\r\n"
        self._transport.write(chunk + last)
        self._input = None
        return True

    def _answer_stats(self) -> None:
        pacer = self._pacer
        body = json.dumps({"sent": pacer.sent, "streaming": pacer.streaming, "closed": pacer.closed}).encode()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    pacer = Pacer()
    server = await loop.create_server(lambda: Stream(pacer), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await pacer.run()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    uvloop.run(_serve())
