"""A client that records every frame and checks laws 1, 2 and 10 on each of them."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.conditions import holds
from tests.in_time import TooLate

Frame = dict[str, Any]

TIMEOUT_S = 30.0
FRAME_BYTES_MAX = 16_384
ENDINGS = frozenset({"turn.completed", "turn.cancelled", "turn.failed"})


class RequestFailed(Exception):
    """The gateway answered `error`."""

    def __init__(self, error: Frame) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.error = error
        self.code: str = error["code"]


class StoreTimedOut(RequestFailed, TooLate):
    """The gateway answered `store_unavailable`. On an overloaded machine even a healthy store can be too slow."""


class TurnView:
    """The events of one turn that one attachment has received."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.epoch: int | None = None
        self.seq = 0
        self.ended: Frame | None = None
        self.resets = 0
        self._texts: dict[int, str] = {}
        self.kinds: dict[int, str] = {}

    def apply(self, frame: Frame) -> None:
        """Check the event against laws 1 and 2 and add it to the view."""
        kind = frame["type"]
        assert self.ended is None, f"law 2: {frame} after {self.ended}"
        if kind == "turn.reset":
            self.epoch, self.seq = frame["epoch"], frame["seq"]
            self._texts, self.kinds = {}, {}
            self.resets += 1
            self.frames.append(frame)
            return
        after = frame.get("after", frame["seq"] - 1)
        assert after == self.seq, f"law 1: {frame} does not continue {self.seq}"
        self.seq = frame["seq"]
        self.frames.append(frame)
        if kind == "turn.started" or frame.get("status") == "resumed":
            self.epoch = frame["epoch"]
        elif kind == "turn.part":
            self.kinds[frame["part"]] = frame["kind"]
            self._texts[frame["part"]] = ""
        elif kind == "turn.delta":
            self._texts[frame["part"]] = self._texts.get(frame["part"], "") + frame.get("text", "")
        elif kind in ENDINGS:
            self.ended = frame

    def text(self, kind: str = "text") -> str:
        """Return the text of all parts of that kind."""
        return "".join(text for part, text in self._texts.items() if self.kinds.get(part, kind) == kind)

    @property
    def position(self) -> Frame:
        """The position of this attachment."""
        return {"epoch": self.epoch, "seq": self.seq}


class Client:
    """A WebSocket whose frames are read continuously."""

    def __init__(self, socket: ClientConnection, binary: bool) -> None:
        self.socket = socket
        self.frames: list[Frame] = []
        self.turns: dict[str, TurnView] = {}
        self.detached: dict[str, str] = {}
        self.ready: Frame = {}
        self.closed: tuple[int, str] | None = None
        self.failure: BaseException | None = None
        self._binary = binary
        self._answers: dict[str, Frame] = {}
        self._pieces: dict[str, list[str]] = {}
        self._ids = itertools.count(1)
        self._changed = asyncio.Condition()
        self.reading = asyncio.Event()
        self.reading.set()

    async def read(self) -> None:
        """Read frames until the socket closes."""
        try:
            async for data in self.socket:
                await self.reading.wait()
                assert isinstance(data, bytes) is self._binary, "the wrong opcode"
                frame = msgspec.msgpack.decode(data) if isinstance(data, bytes) else msgspec.json.decode(data)
                assert max(len(msgspec.json.encode(frame)), len(msgspec.msgpack.encode(frame))) <= FRAME_BYTES_MAX, (
                    "law 10"
                )
                self._receive(frame)
                await self._notify()
        except ConnectionClosed:
            pass
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self.closed = (self.socket.close_code or 0, self.socket.close_reason or "")
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _receive(self, frame: Frame) -> None:
        self.frames.append(frame)
        kind = frame["type"]
        if kind == "ready":
            self.ready = frame
        elif kind == "result.piece":
            self._pieces.setdefault(frame["id"], []).append(frame["text"])
        elif kind == "turn.detached":
            self.detached[frame["turn"] if "as" not in frame else f"{frame['as']}/{frame['turn']}"] = frame["reason"]
        elif kind in {"result", "error"}:
            if "pieces" in frame:
                pieces = self._pieces.pop(frame["id"])
                assert len(pieces) == frame["pieces"]
                frame = {**frame, "result": msgspec.json.decode("".join(pieces))}
            if "id" in frame:
                assert frame["id"] not in self._answers, "one answer for each request"
                self._answers[frame["id"]] = frame
        elif kind.startswith("turn."):
            turn = frame["turn"] if "as" not in frame else f"{frame['as']}/{frame['turn']}"
            held = self.turns.get(turn)
            if kind == "turn.started" and held is not None and held.seq > 0:
                self.turns[turn] = TurnView()  # a new attachment, which replays from the start
            self.turns.setdefault(turn, TurnView()).apply(frame)

    def resume(self, turn: str, view: TurnView) -> None:
        """Continue with the events that another connection has received."""
        self.turns[turn] = view

    async def send_raw(self, data: str | bytes) -> None:
        """Send a frame unchanged."""
        await self.socket.send(data)

    async def send(self, kind: str, **fields: Any) -> str:
        """Send a request and return its id."""
        request_id = fields.pop("id", None) or f"r{next(self._ids)}"
        frame = {"type": kind, "id": request_id, **fields}
        encoded = msgspec.msgpack.encode(frame) if self._binary else msgspec.json.encode(frame).decode()
        await self.socket.send(encoded)
        return str(request_id)

    async def answer(self, request_id: str) -> Any:
        """Return the result of a request. Raises `RequestFailed`."""
        await self.until(lambda: request_id in self._answers)
        frame = self._answers.pop(request_id)
        if frame["type"] == "error":
            late = frame["error"]["code"] == "store_unavailable"
            raise (StoreTimedOut if late else RequestFailed)(frame["error"])
        return frame["result"]

    async def request(self, kind: str, **fields: Any) -> Any:
        """Send a request and wait for its result. Raises `RequestFailed`."""
        return await self.answer(await self.send(kind, **fields))

    async def until(self, condition: Any, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until `condition()` holds."""
        async with asyncio.timeout(timeout_s), self._changed:
            while not holds(condition):
                if self.failure is not None:
                    raise self.failure
                assert self.closed is None, f"closed: {self.closed}"
                await self._changed.wait()

    async def until_closed(self, timeout_s: float = TIMEOUT_S) -> tuple[int, str]:
        """Wait for the close and return its code and reason."""
        async with asyncio.timeout(timeout_s), self._changed:
            while self.closed is None:
                await self._changed.wait()
        return self.closed

    async def ending(self, turn: str, timeout_s: float = TIMEOUT_S) -> Frame:
        """Wait for a turn's end event and return it."""
        await self.until(lambda: turn in self.turns and self.turns[turn].ended is not None, timeout_s)
        ended = self.turns[turn].ended
        assert ended is not None
        return ended

    async def until_status(self, turn: str, status: str) -> None:
        """Poll the turn until it has the status. The client needn't be attached to it."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                try:
                    if (await self.request("turn.get", turn=turn))["status"] == status:
                        return
                except RequestFailed as failed:
                    assert failed.code == "not_found", failed
                await asyncio.sleep(0.02)

    async def until_seq(self, turn: str, seq: int) -> None:
        """Wait until the turn's event with this seq has been received."""
        await self.until(lambda: turn in self.turns and self.turns[turn].seq >= seq)


def small_buffer_socket(url: str) -> socket.socket:
    """Return a connected socket with a small kernel buffer, so that the gateway notices soon if the client stops
    reading."""
    parts = urlsplit(url)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect((parts.hostname, parts.port))
    narrow.setblocking(False)
    return narrow


@asynccontextmanager
async def client(
    url: str, *, codec: str | None = "json", read: bool = True, first: Frame | None = None, **options: Any
) -> AsyncIterator[Client]:
    """Connect, send the frame `first` if there is one, wait for `ready`, and read all frames. With `read=False`, don't
    wait and read nothing. On exit, close the connection."""
    subprotocols = None if codec is None else [Subprotocol(f"turnwire.v1.{codec}")]
    async with connect(url, subprotocols=subprotocols, compression=None, **options) as connection:
        made = Client(connection, codec == "msgpack")
        if first is not None:
            await made.send(first["type"], **{name: value for name, value in first.items() if name != "type"})
        if not read:
            yield made
            return
        reader = asyncio.get_running_loop().create_task(made.read())
        try:
            await made.until(lambda: bool(made.ready))
            yield made
        finally:
            made.reading.set()
            await connection.close()
            await reader
