"""Attackers, each a program that runs until it is killed: python -m tests.floods NAME URL TOKEN.

Each prints `AT_WORK` half a second after its start. `requests` is different: it floods the gateway with one type of
request after another, prints the name of each, goes on to the next one after it has read a line of input, and ends
after the last.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from tests.raw_socket import CONTINUATION, TEXT, RawFrame, connect_tcp, connect_websocket

Attack = Callable[[str, str], Awaitable[None]]

AT_WORK = b"at work\n"
NICENESS = 5
HALF_OPEN = 500
DEPTH = 30_000
BOMBS = [
    b"[" * DEPTH + b"]" * DEPTH,
    b'{"type":"ping","t":' + b"[" * DEPTH,
    b'{"type":"turn.start","input":"x","metadata":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
    b'{"type":"ping","t":' + b"9" * 60_000 + b"}",
    b'{"type":"ping","t":1e' + b"9" * 60_000 + b"}",
    b'{"type":"ping","t":NaN}',
    b"{" + b",".join(b'"a%d":1' % n for n in range(5000)) + b"}",
    b"{" + b'"type":"ping",' * 4000 + b'"t":1}',
    b'{"type":"ping","id":"' + b"\\ud800" * 10_000 + b'"}',
    b'{"type":"ping","x":[' + b"1e308," * 10_000 + b"1]}",
    b'{"type":"ping","' + b" - at `$" * 8_000 + b'\\n":1}',
]


async def half_open(url: str, _: str) -> None:
    """Send half a handshake on 500 connections, and again after each is closed."""
    async with asyncio.TaskGroup() as group:
        for _n in range(HALF_OPEN):
            group.create_task(_again(lambda: _half(url, b"GET /ws HTTP/1.1\r\nHost: 127")))


async def drip(url: str, _: str) -> None:
    """Send a head or a body byte by byte on 200 connections."""
    head = (
        b"POST /v1/turns HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n"
    )
    async with asyncio.TaskGroup() as group:
        for n in range(200):
            start = head if n % 2 else b"GET /v1 HTTP/1.1\r\nX-A: "
            group.create_task(_again(lambda start=start: _drip(url, start)))  # type: ignore[misc]


async def endless_heads(url: str, _: str) -> None:
    """Send heads of several megabytes."""
    await _many(4, lambda: _endless(url))


async def slow_readers(url: str, token: str) -> None:
    """Start turns that stream as fast as possible, and don't read their events."""
    await _many(10, lambda: _slow_reader(url, token))


async def fragments(url: str, token: str) -> None:
    """Send messages of 20,000 empty fragments."""
    piece = RawFrame(TEXT, b"{", fin=False).encode() + RawFrame(CONTINUATION, fin=False).encode() * 20_000
    await _many(2, lambda: _send(url, token, piece))


async def json_bombs(url: str, token: str) -> None:
    """Send JSON that is expensive to parse or that must be refused."""
    bombs = b"".join(RawFrame(TEXT, bomb).encode() for bomb in BOMBS)
    await _many(2, lambda: _send(url, token, bombs))


async def broken_frames(url: str, token: str) -> None:
    """Send frames that aren't requests until the socket closes, and again."""
    await _many(4, lambda: _send(url, token, RawFrame(TEXT, b"nonsense").encode() * 50))


async def turns(url: str, token: str) -> None:
    """Start turns as fast as they are answered."""
    await _many(4, lambda: _start_turns(url, token))


async def openings(url: str, _: str) -> None:
    """Open connections with an invalid token."""
    await _many(4, lambda: _send(url, "x.y.z", b""))


async def http_requests(url: str, token: str) -> None:
    """Send HTTP requests on 40 connections, half of them with an invalid credential; each reads all responses."""
    async with asyncio.TaskGroup() as group:
        for n in range(40):
            group.create_task(_again(lambda token=token if n % 2 else "x.y.z": _flood_http(url, token)))  # type: ignore[misc]


async def tiny_chunks(url: str, token: str) -> None:
    """Send bodies of one-byte chunks on 8 connections: half of them to a path that refuses them without reading them."""
    async with asyncio.TaskGroup() as group:
        for n in range(8):
            head = f"POST /v1/turns HTTP/1.1\r\n{_credential(token)}" if n % 2 else "POST /v1 HTTP/1.1\r\n"
            group.create_task(_again(lambda head=head: _flood_chunks(url, head)))  # type: ignore[misc]


def _ids(count: int) -> list[str]:
    return [f"nowhere-{n:06}-{'x' * 24}" for n in range(count)]


def _positions(count: int) -> dict[str, Any]:
    return {turn: {"epoch": 1, "seq": 0} for turn in _ids(count)}


REQUESTS: dict[str, dict[str, Any]] = {
    "ping": {},
    "auth": {"token": "no token"},
    "turn.start": {"input": "x", "params": {"demo": {"rate": 50, "tokens": 20}}},
    "turn.start of many messages": {
        "messages": [{"role": "user", "parts": [{"kind": "text", "text": "x"}]}] * 900,
        "params": {"demo": {"rate": 50, "tokens": 20}},
    },
    "turn.estimate": {"input": "x"},
    "turn.estimate of many messages": {
        "messages": [{"role": "user", "parts": [{"kind": "text", "text": "x"}]}] * 900,
    },
    "turn.cancel": {"turn": "nowhere"},
    "turn.cancel of many": {"turns": _ids(1000)},
    "turn.cancel of all": {"mine": True},
    "turn.cancel in a conversation": {"conversation": "nowhere"},
    "turn.attach": {"turn": "nowhere"},
    "turn.attach to many": {"positions": _positions(700)},
    "turn.detach": {"turn": "nowhere"},
    "turn.get": {"turn": "nowhere"},
    "conversation.create": {"title": "x", "metadata": {"a": "x" * 8000}},
    "conversation.list": {"query": "nothing", "limit": 200},
    "conversation.get": {"conversation": "nowhere"},
    "conversation.update": {"conversation": "nowhere", "title": "x"},
    "conversation.clear": {"conversation": "nowhere"},
    "conversation.delete": {"conversation": "nowhere"},
    "conversation.messages": {"conversation": "nowhere"},
    "conversation.attach": {"conversation": "nowhere"},
    "conversation.attach with many": {"conversation": "nowhere", "positions": _positions(700)},
    "conversation.detach": {"conversation": "nowhere"},
    "conversations.attach": {},
    "conversations.detach": {},
    "feedback.put": {"message": "nowhere", "rating": "up"},
    "models.list": {},
    "usage.get": {},
}
"""The fields of each request, by its type. A space and a description may follow the type."""
FLOODERS = 5

MANY_SMALL_VALUES: dict[str, bytes] = {
    "messages": b'{"messages":[' + b'{"role":"user","parts":[{"kind":"text","text":"a"}]},' * 280_000 + b"{}]}",
    "parts": b'{"input":[' + b'{"kind":"text","text":"a"},' * 600_000 + b"{}]}",
    "calls": b'{"messages":[{"role":"assistant","parts":['
    + b'{"kind":"tool_call","call":"c","name":"x","arguments":"{}"},' * 180_000
    + b"{}]}]}",
    "numbers": b'{"input":"x","metadata":[' + b"1," * 9_000_000 + b"1]}",
    "maps": b'{"input":"x","params":{"demo":' + b'{"a":' * 3_000_000 + b"1",
    "texts": b'{"input":"x","system":' + b'"",' * 6_000_000 + b'""}',
    "keys": b'{"input":"x","metadata":{' + b'"":1,' * 3_000_000 + b'"":1}}',
}
"""Bodies of 10 to 20 MB that are refused and must not delay other clients."""


async def requests(url: str, token: str) -> None:
    """Flood with one type of request after another, on a few sockets, as fast as the gateway reads."""
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    for name, fields in REQUESTS.items():
        kind = name.split()[0]
        frames = b"".join(
            RawFrame(TEXT, json.dumps({"type": kind, "id": str(n), **fields}).encode()).encode() for n in range(100)
        )
        flood = asyncio.create_task(_many(FLOODERS, lambda frames=frames: _flood(url, token, frames)))  # type: ignore[misc]
        await asyncio.sleep(0.2)
        os.write(sys.stdout.fileno(), f"{name}\n".encode())
        await commands.readline()
        flood.cancel()
        await asyncio.wait([flood])


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        half_open,
        drip,
        endless_heads,
        slow_readers,
        fragments,
        json_bombs,
        broken_frames,
        turns,
        openings,
        http_requests,
        tiny_chunks,
    )
}


async def _many(count: int, attack: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(_again(attack))


async def _again(attack: Callable[[], Awaitable[None]]) -> None:
    while True:
        with suppress(OSError, EOFError, AssertionError, TimeoutError):
            await attack()
        await asyncio.sleep(0.01)


def _credential(token: str) -> str:
    return f"Authorization: Bearer {token}\r\n"


async def _half(url: str, data: bytes) -> None:
    reader, writer = await connect_tcp(url)
    writer.write(data)
    await reader.read(-1)
    writer.close()


async def _drip(url: str, start: bytes) -> None:
    _, writer = await connect_tcp(url)
    writer.write(start)
    for _ in range(100):
        await asyncio.sleep(0.2)
        writer.write(b"x")
        await writer.drain()
    writer.close()


async def _endless(url: str) -> None:
    _, writer = await connect_tcp(url)
    writer.write(f"GET /v1 HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nX-A: ".encode())
    for _ in range(100):
        writer.write(b"x" * 100_000)
        await writer.drain()
    writer.close()


async def _slow_reader(url: str, token: str) -> None:
    _, writer = await connect_websocket(url, _credential(token))
    for n in range(3):
        request = {"type": "turn.start", "input": f"x{n}", "params": {"demo": {"rate": 0, "tokens": 20_000}}}
        writer.write(RawFrame(TEXT, json.dumps(request).encode()).encode())
    await asyncio.sleep(30)
    writer.close()


async def _send(url: str, token: str, data: bytes) -> None:
    reader, writer = await connect_websocket(url, _credential(token))
    writer.write(data)
    await writer.drain()
    await asyncio.wait_for(reader.read(-1), 2)
    writer.close()


async def _flood_chunks(url: str, head: str) -> None:
    reader, writer = await connect_tcp(url)
    writer.write(
        f"{head}Host: {urlsplit(url).netloc}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    await _write_and_read(reader, writer, b"1\r\n \r\n" * 10_000)


async def _flood(url: str, token: str, frames: bytes) -> None:
    """Send the frames again and again, and read the answers."""
    await _write_and_read(*await connect_websocket(url, _credential(token)), frames)


async def _write_and_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
    async def read() -> None:
        while await reader.read(2**16):
            pass

    reading = asyncio.create_task(read())
    try:
        while not reading.done():
            writer.write(data)
            await writer.drain()
    finally:
        reading.cancel()
        writer.close()


async def _flood_http(url: str, token: str) -> None:
    """Send pipelined requests without end, and read the responses."""
    head = f"GET /v1/models HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n{_credential(token)}\r\n"
    await _write_and_read(*await connect_tcp(url), head.encode() * 10)


async def _start_turns(url: str, token: str) -> None:
    reader, writer = await connect_websocket(url, _credential(token))
    for n in itertools.count():
        request = {"type": "turn.start", "id": str(n), "input": "x", "params": {"demo": {"rate": 200, "tokens": 50}}}
        writer.write(RawFrame(TEXT, json.dumps(request).encode()).encode())
        await writer.drain()
        await reader.read(65_536)


async def _attack(name: str, url: str, token: str) -> None:
    if name == requests.__name__:
        await requests(url, token)
        return
    asyncio.get_running_loop().call_later(0.5, os.write, sys.stdout.fileno(), AT_WORK)
    await ATTACKS[name](url, token)


if __name__ == "__main__":
    # A real attacker has a machine of its own. The low priority keeps this process from taking the gateway's CPU time.
    os.nice(NICENESS)
    asyncio.run(_attack(*sys.argv[1:]))
