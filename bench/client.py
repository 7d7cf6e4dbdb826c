"""A WebSocket client that needs much less CPU than the gateway. It finds tokens with a regular expression.

The text of a token is the time at which the upstream wrote it (see `upstream.py`), so the client can compute its latency.
"""

from __future__ import annotations

import asyncio
import re
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

_TOKEN = re.compile(rb"\d{16}(?= )")
DELTA = b"turn.delta"
ENDINGS = (b"turn.completed", b"turn.cancelled", b"turn.failed")
TOKEN_CHARS = 17
TYPE_WITHIN = 48
"""The number of bytes at the start of a frame that contain its type."""


@dataclass
class CheckedTurn:
    """The events received for one turn: the last `seq`, the number of tokens, and whether they violate law 1."""

    seq: int = 0
    tokens: int = 0
    broken: bool = False


class Tally:
    """The counts of all frames that the sockets of a run have received.

    `late_ns` holds the latency of each token, if `keep_latency` is true. `checked_turns` holds the checked turns by id;
    None means that frames are counted but not checked. `last_ns` is the time at which the last token was written.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.frames = 0
        self.bytes = 0
        self.last_ns = 0
        self.keep_latency = False
        self.late_ns = array("q")
        self.checked_turns: dict[str, CheckedTurn] | None = None

    def check(self, event: dict[str, Any]) -> None:
        """Check that a turn's event directly follows the previous one (law 1)."""
        if self.checked_turns is None or "seq" not in event:
            return
        turn = self.checked_turns.setdefault(event["turn"], CheckedTurn())
        if event.get("after", event["seq"] - 1) != turn.seq:
            turn.broken = True
        turn.seq = event["seq"]
        turn.tokens += len(event.get("text") or "") // TOKEN_CHARS

    def count(self, payload: bytes) -> None:
        """Count the tokens in the payload of a delta frame, and record their latency if needed."""
        written = _TOKEN.findall(payload)
        self.tokens += len(written)
        if written:
            self.last_ns = int(written[-1])
        if self.keep_latency:
            now = time.monotonic_ns()
            self.late_ns.extend([now - int(at) for at in written])


class Socket(WSListener):
    """One connection to the gateway."""

    def __init__(self, tally: Tally, codec: str) -> None:
        self.tally = tally
        self.binary = codec == "msgpack"
        self._decode: Callable[[bytes], Any] = msgspec.msgpack.decode if self.binary else msgspec.json.decode
        self._encode: Callable[[Any], bytes] = msgspec.msgpack.encode if self.binary else msgspec.json.encode
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._firsts: dict[str, asyncio.Future[int]] = {}
        self._endings: dict[str, asyncio.Future[Any]] = {}
        self._close_reason = "without a close frame"
        self.ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()
        self.live_turns: set[str] = set()
        """The turns that `ask` has started on this socket and that have no ending yet."""
        self._next = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        """See `WSListener`."""
        self.transport = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """See `WSListener`. Whatever still waits for a frame fails, because none comes."""
        self.closed.set()
        waiting = [self.ready, *self._waiting.values(), *self._firsts.values(), *self._endings.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(self._closed_error())
                future.exception()  # nobody needs to wait for it

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """See `WSListener`."""
        if frame.msg_type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            if frame.msg_type == WSMsgType.CLOSE:
                reason = bytes(frame.get_close_message() or b"").decode(errors="replace")
                self._close_reason = f"with {frame.get_close_code()} {reason}"
                transport.send_close(WSCloseCode.OK)
                transport.disconnect()
            return
        payload = frame.get_payload_as_bytes()
        tally = self.tally
        tally.frames += 1
        tally.bytes += len(payload)
        head = payload[:TYPE_WITHIN]
        if DELTA in head:
            tally.count(payload)
            if tally.checked_turns is not None:
                tally.check(self._decode(payload))
            if self._firsts:
                self._first(payload)
            return
        self._other(head, payload)

    def _first(self, payload: bytes) -> None:
        waiting = self._firsts.pop(self._decode(payload)["turn"], None)
        if waiting is not None:
            waiting.set_result(time.monotonic_ns())

    def _other(self, head: bytes, payload: bytes) -> None:
        if any(ending in head for ending in ENDINGS):
            event = self._decode(payload)
            self.tally.check(event)
            self.live_turns.discard(event["turn"])
            waiting = self._endings.pop(event["turn"], None)
            if waiting is not None:
                waiting.set_result(event)
        elif b"ready" in head and not self.ready.done():
            self.ready.set_result(self._decode(payload))
        elif b"result" in head or b'"error"' in head or b"\xa5error" in head:
            answer = self._decode(payload)
            future = self._waiting.pop(answer.get("id") or "", None)
            if future is not None and not future.done():
                future.set_result((time.monotonic_ns(), answer))
        elif self.tally.checked_turns is not None:
            self.tally.check(self._decode(payload))

    def send(self, frame: dict[str, Any]) -> None:
        """Send one frame."""
        self.transport.send(WSMsgType.BINARY if self.binary else WSMsgType.TEXT, self._encode(frame))

    async def ask(self, type_: str, **fields: Any) -> tuple[int, Any]:
        """Send a request. Return the time of its answer (monotonic ns) and the result.

        Raise `RuntimeError` if the answer is an error.
        """
        if type_ == "turn.start":
            self.live_turns.add(fields["turn"])
        self._next += 1
        request = str(self._next)
        future = self._waiting[request] = self._future()
        self.send({"type": type_, "id": request, **fields})
        at, answer = await future
        if answer["type"] == "error":
            raise RuntimeError(f"{type_} was refused: {answer['error']}")
        return at, answer.get("result")  # a large result arrives in pieces, which this client doesn't read

    def first_token(self, turn: str) -> asyncio.Future[int]:
        """Return a future for the time at which the first delta of `turn` is received (monotonic ns)."""
        future = self._firsts[turn] = self._future()
        return future

    def ending(self, turn: str) -> asyncio.Future[Any]:
        """Return a future for the ending event of `turn`."""
        future = self._endings[turn] = self._future()
        return future

    @property
    def unended(self) -> list[str]:
        """The turns whose ending somebody waits for."""
        return list(self._endings)

    def _future(self) -> asyncio.Future[Any]:
        """Return a future for a frame. Raises `ConnectionError` if the socket is closed."""
        if self.closed.is_set():
            raise self._closed_error()
        return asyncio.get_running_loop().create_future()

    def _closed_error(self) -> ConnectionError:
        return ConnectionError(f"The gateway closed a connection {self._close_reason}.")


async def open_sockets(
    url: str, count: int, tally: Tally, codec: str = "json", *, tokens: Sequence[str] = ()
) -> list[Socket]:
    """Return `count` open sockets that have received `ready`. `tokens`: the credential of each."""
    address = url.replace("http", "ws", 1) + "/ws"
    protocol = {"Sec-WebSocket-Protocol": f"turnwire.v1.{codec}"}
    headers = [{**protocol, "Authorization": f"Bearer {token}"} for token in tokens] or [protocol] * count
    sockets: list[Socket] = []
    for start in range(0, count, 50):
        opened = await asyncio.gather(
            *(
                ws_connect(
                    lambda: Socket(tally, codec), address, extra_headers=headers[n], websocket_handshake_timeout=30
                )
                for n in range(start, min(count, start + 50))
            )
        )
        sockets += [cast("Socket", listener) for _, listener in opened]
    await asyncio.gather(*(socket.ready for socket in sockets))
    return sockets


async def close_sockets(sockets: Iterable[Socket]) -> None:
    """Close the sockets."""
    for socket in sockets:
        socket.transport.send_close(WSCloseCode.OK)
        socket.transport.disconnect()
    await asyncio.gather(*(socket.closed.wait() for socket in sockets))
