"""A TCP relay between a client and a gateway that knows the frames of WebSockets and the events of HTTP streams.

It can cut a connection after a given event, fall silent, refuse WebSockets, and add frames and fields of its own.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.client_cases.frames import CLOSE, Frame, Frames, encoded

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
RECEIVE_BUFFER_BYTES = 16_384
"""The buffer of the relay's connection to the gateway. It is small, so that a gateway soon notices a relay that doesn't read."""
EVENT_ID = re.compile(rb"^id: \d+-(\d+)\n", re.M)
HTTP_REQUESTS = {
    "turn.start": re.compile(rb"POST /v1/turns "),
    "turn.cancel": re.compile(rb"POST /v1/turns/[^/ ]+/cancel "),
}
REFUSED = b"<html><body>WebSockets aren't allowed here.</body></html>"


class _Cut(Exception):
    """The connection is cut here."""


class _Link:
    """One connection through the relay."""

    def __init__(self, client: asyncio.StreamWriter, gateway: asyncio.StreamWriter) -> None:
        self.client = client
        self.gateway = gateway
        self.is_socket = False
        self.passes = asyncio.Event()
        self.passes.set()

    def cut(self, *, reset: bool) -> None:
        """End both connections, with a TCP reset or as if the other end had closed them."""
        for writer in (self.client, self.gateway):
            raw = writer.get_extra_info("socket")
            if reset and raw is not None and not writer.is_closing():
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort() if reset else writer.close()


class Relay:
    """A relay to the gateway at `target`, which clients reach at `port`.

    It passes everything, unless one of these says otherwise.
    """

    cuts: list[int | str]
    """The connection is cut after the first event whose `seq` is at least the first of these numbers, then that number is
    removed. A type instead of a number cuts it after the next frame of that type; 0, when a start has reached the gateway."""
    lost: str
    """The next request of this type is cut off before it reaches the gateway."""
    unanswered: str
    """The next request of this type reaches the gateway, but its answer doesn't come back."""
    silent_after: str
    """The connection falls silent after the next frame of this type."""
    upgrades: str
    """What happens to WebSockets: "pass", "refuse" (403, as by a proxy), "strip" (the gateway sees a plain request), "hang"
    (no answer) or "close" (closed as soon as it is open)."""
    frames: list[dict[str, Any]]
    """Frames that are added before each delta. The turn "its turn" is that of the delta."""
    detour: list[dict[str, Any]]
    """Events that are added after the first `turn.started`, with its turn and epoch; `turn.started` stands for that frame."""
    fields: dict[str, Any]
    """Fields that are added to each frame."""
    slice: int
    """How many bytes of the gateway's are passed at a time."""
    reset: bool
    """Whether a cut is a TCP reset. Otherwise both ends see the other close."""
    types: Counter[str]
    """How many frames of each type the gateway has sent."""
    closes: list[int]
    """The close codes of the gateway."""
    problems: list[str]
    """What a client did against the protocol."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.cuts = []
        self.lost = ""
        self.unanswered = ""
        self.slice = 8_192
        self.silent_after = ""
        self.upgrades = "pass"
        self.frames = []
        self.detour = []
        self.fields = {}
        self.reset = True
        self.sockets = 0
        self.injected = 0
        self.types = Counter()
        self.closes = []
        self.problems = []
        self._accepts = True
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked_to_wait_until = 0.0

    def cut(self) -> None:
        """Cut all connections now."""
        for link in self._links:
            link.cut(reset=self.reset)

    def down(self) -> None:
        """Cut all connections, and each new one."""
        self._accepts = False
        self.cut()

    def up(self) -> None:
        """Accept connections again."""
        self._accepts = True

    def silence(self) -> None:
        """Pass nothing more on the open connections, in either direction. New ones pass."""
        for link in self._links:
            link.passes.clear()

    def speak(self) -> None:
        """Pass what waits, and all that follows."""
        for link in self._links:
            link.passes.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._accepts:
                await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        is_socket = b"upgrade: websocket" in head.lower()
        if is_socket and self.upgrades not in ("pass", "close"):
            if self.upgrades == "hang":
                await reader.read()
                return
            if self.upgrades == "refuse":
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nConnection: close\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % len(REFUSED) + REFUSED)
                await writer.drain()
                writer.write_eof()
                await reader.read()
                return
            head = re.sub(rb"(?i)\r\n(upgrade|connection|sec-websocket-[a-z]+):[^\r]*", b"", head)
            is_socket = False
        if is_socket:
            self._count_socket()
        else:  # one request on each connection, so that no WebSocket is opened on it afterward
            head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head)[:-2] + b"Connection: close\r\n\r\n"
        raw = socket.socket()
        raw.setblocking(False)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.target))
        from_gateway, to_gateway = await asyncio.open_connection(sock=raw, limit=RECEIVE_BUFFER_BYTES)
        link = _Link(writer, to_gateway)
        link.is_socket = is_socket
        self._links.add(link)
        up = asyncio.ensure_future(self._up(link, head, reader))
        down = asyncio.ensure_future(self._down(link, from_gateway))
        try:
            done, _ = await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            if any(isinstance(one.exception(), _Cut) for one in done):
                link.cut(reset=self.reset)
        finally:
            for one in (up, down):
                one.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            self._links.discard(link)
            with suppress(OSError):
                writer.close()
                to_gateway.close()
                await writer.wait_closed()

    def _count_socket(self) -> None:
        early_s = self._asked_to_wait_until - asyncio.get_running_loop().time()
        if early_s > 0.05:
            self.problems.append(f"a socket was opened {early_s:.2f} s before the time that going_away asked for")
        self.sockets += 1

    async def _up(self, link: _Link, head: bytes, reader: asyncio.StreamReader) -> None:
        """Pass what the client sends."""
        frames = Frames()
        data = head
        while data:
            await link.passes.wait()
            asked = self._requests(link, data, frames if data is not head else None)
            if self.lost in asked:
                self.lost = ""
                raise _Cut
            is_last = self.unanswered in asked or (self.cuts[:1] == [0] and "turn.start" in asked)
            if is_last:
                link.passes.clear()  # no answer is passed back
                self.unanswered, self.cuts = "", self.cuts[1:] if self.cuts[:1] == [0] else self.cuts
            link.gateway.write(data)
            await link.gateway.drain()
            if is_last:
                await asyncio.sleep(0.1)  # until the gateway has read it
                raise _Cut
            data = await reader.read(65_536)

    def _requests(self, link: _Link, data: bytes, frames: Frames | None) -> set[str]:
        """Return the types of the requests in the data."""
        if link.is_socket:
            return set() if frames is None else {frame.decoded().get("type", "") for frame in frames.feed(data)} - {""}
        line = data.partition(b"\r\n")[0]
        return {kind for kind, found in HTTP_REQUESTS.items() if found.match(line)}

    async def _down(self, link: _Link, reader: asyncio.StreamReader) -> None:
        """Pass what the gateway sends."""
        if link.is_socket:
            head = await reader.readuntil(b"\r\n\r\n")
            link.client.write(head)
            link.is_socket = head.startswith(b"HTTP/1.1 101")
            if self.upgrades == "close":
                return
        frames = Frames()
        while True:
            await link.passes.wait()
            data = await reader.read(self.slice)
            if not data:
                return
            await link.passes.wait()
            if link.is_socket:
                for frame in frames.feed(data):
                    await link.passes.wait()
                    await self._pass_frame(link, frame)
            else:
                await self._pass_stream(link, data)

    async def _pass_frame(self, link: _Link, frame: Frame) -> None:
        event = frame.decoded()
        if frame.opcode == CLOSE:
            self.closes.append(int.from_bytes(frame.payload[:2], "big"))
        if event.get("type") == "going_away":
            wait_s = event["reconnect_after_ms"] / 1000
            self._asked_to_wait_until = asyncio.get_running_loop().time() + wait_s
        self.types[event.get("type", "")] += 1
        raw = frame.raw
        if event and (self.fields or self.frames):
            raw = self._changed(frame.opcode, event)
        if self.detour and event.get("type") == "turn.started":
            detour, self.detour = self.detour, []
            own = {name: event[name] for name in ("turn", "epoch")}
            raw += b"".join(
                encoded(frame.opcode, event if one["type"] == event["type"] else {**one, **own}) for one in detour
            )
        link.client.write(raw)
        await link.client.drain()
        if self.silent_after and event.get("type") == self.silent_after:
            self.silent_after = ""
            link.passes.clear()
        self._cut_after([event[name] for name in ("seq", "type") if name in event])

    def _changed(self, opcode: int, event: dict[str, Any]) -> bytes:
        added = b""
        if event["type"] == "turn.delta":
            for frame in self.frames:
                self.injected += 1
                its = {"turn": event["turn"]} if frame.get("turn") == "its turn" else {}
                added += encoded(opcode, {**frame, **its})
        return added + encoded(opcode, {**event, **self.fields})

    async def _pass_stream(self, link: _Link, data: bytes) -> None:
        link.client.write(data)
        await link.client.drain()
        self._cut_after([int(seq) for seq in EVENT_ID.findall(data)])

    def _cut_after(self, found: list[int | str]) -> None:
        """Raise `_Cut` if the next cut is due after these numbers of events and types of frames."""
        due = self.cuts[0] if self.cuts else 0
        if due and any(one == due or (isinstance(one, int) and isinstance(due, int) and one >= due) for one in found):
            self.cuts.pop(0)
            raise _Cut

    async def close(self) -> None:
        """Cut all connections, and wait until they are closed."""
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def relay(target: int) -> AsyncIterator[Relay]:
    """Start a relay to the gateway at the port `target`. On exit, close it."""
    one = Relay(target)
    listener = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = listener.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        listener.close()
        await one.close()
