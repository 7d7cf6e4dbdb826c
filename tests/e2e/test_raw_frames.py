"""Frames that no client library sends, on a real socket: each has its close code, and other clients aren't affected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.client import client
from tests.examples import examples
from tests.gateway_process import GatewayProcess
from tests.raw_socket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawFrame,
    connect_websocket,
    read_frames,
    read_to_end,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

FRAME_BYTES_MAX = 65_536
FRAGMENTS_MAX = 64
BROKEN_MAX = 20

PAYLOADS = st.one_of(
    st.just(b'{"type":"ping","id":"1"}'),
    st.sampled_from([b"", b"{", b'{"type":"ping"', b"\xff\xfe", b"\xc3", b"x" * 125, b"[" * 200, b"x" * 70_000]),
    st.binary(max_size=130),
    st.builds(lambda code, why: code.to_bytes(2, "big") + why, st.integers(0, 5200), st.sampled_from([b"", b"\xff"])),
)
FRAMES = st.builds(
    RawFrame,
    opcode=st.sampled_from([CONTINUATION, TEXT, TEXT, BINARY, CLOSE, PING, PONG, 0x3, 0xB, 0xF]),
    payload=PAYLOADS,
    fin=st.sampled_from([True, True, True, False]),
    rsv=st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2, 4]),
    masked=st.sampled_from([True] * 9 + [False]),
)
CLOSE_FRAME = RawFrame(CLOSE, (1000).to_bytes(2, "big"))


class Oracle:
    """The result that RFC 6455 and docs/protocol.md require for a connection, frame by frame.

    `codes` holds the allowed close codes. There is more than one if a protocol error or a close frame follows a message
    that isn't valid: the gateway may see either first. `pongs` counts the pings before the end.
    """

    def __init__(self) -> None:
        self.codes: set[int] = set()
        self.pongs = 0
        self.broken = 0
        self.is_over = False
        self._opcode: int | None = None
        self._pieces: list[bytes] = []

    def add(self, frame: RawFrame) -> None:
        """Add a frame, unless the connection has been closed."""
        if self.is_over:
            return
        faults = self._faults(frame)
        codes = faults or (self._control(frame) if frame.opcode >= CLOSE else self._data(frame))
        self.codes |= codes
        self.is_over = bool(faults) or (bool(codes) and frame.opcode == CLOSE)

    def _faults(self, frame: RawFrame) -> set[int]:
        """Return the close codes for errors of the frame itself. If there are two errors, either code is allowed."""
        is_control = frame.opcode >= CLOSE
        is_out_of_order = not is_control and (frame.opcode == CONTINUATION) != (self._opcode is not None)
        is_bad_control = is_control and (not frame.fin or len(frame.payload) > 125)
        is_unknown = frame.opcode not in {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}
        size = len(frame.payload) + (0 if is_control else sum(map(len, self._pieces)))
        wrong = is_out_of_order or is_bad_control or is_unknown or bool(frame.rsv) or not frame.masked
        return {code for code, found in ((1002, wrong), (1009, size > FRAME_BYTES_MAX)) if found}

    def _control(self, frame: RawFrame) -> set[int]:
        if frame.opcode == CLOSE:
            found = _closing(frame.payload)
            # A close frame inside a fragmented message leaves the message incomplete, which is a protocol error.
            return {1002} | (found & {1007}) if self._pieces else found
        self.pongs += frame.opcode == PING
        return set()

    def _data(self, frame: RawFrame) -> set[int]:
        if self._opcode is None:
            self._opcode = frame.opcode
        self._pieces.append(frame.payload)
        if not frame.fin:
            return {4400} if len(self._pieces) > FRAGMENTS_MAX else set()
        message, opcode = b"".join(self._pieces), self._opcode
        self._pieces, self._opcode = [], None
        return self._message(opcode, message)

    def _message(self, opcode: int, message: bytes) -> set[int]:
        if opcode == BINARY:
            return {1003}
        try:
            text = message.decode()
        except UnicodeDecodeError:
            return {1007}
        try:
            understood = isinstance(json.loads(text), dict) and json.loads(text).get("type") == "ping"
        except (ValueError, RecursionError):
            understood = False
        self.broken += not understood
        return {4400} if self.broken >= BROKEN_MAX else set()


def _closing(payload: bytes) -> set[int]:
    """Return the codes that may answer a close frame: its own code if it is valid, and 1005 without a code.

    An invalid code and a reason that isn't UTF-8 are two errors, and either code is allowed.
    """
    if not payload:
        return {1005}
    code = int.from_bytes(payload[:2], "big")
    may_be_sent = code in {1000, 1001, 1002, 1003, *range(1007, 1015)} or 3000 <= code < 5000
    faults = set() if may_be_sent and len(payload) > 1 else {1002}
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        faults.add(1007)
    return faults or {code}


async def exchange(gateway: GatewayProcess, frames: Sequence[RawFrame], chunk: int) -> tuple[int | None, int]:
    """Send the frames in chunks of `chunk` bytes, but the last frame as a whole. Return the close code and the number
    of pongs."""
    reader, writer = await connect_websocket(gateway.url)
    data = b"".join(frame.encode() for frame in frames[:-1])
    try:
        for start in range(0, len(data), chunk):
            writer.write(data[start : start + chunk])
            await asyncio.sleep(0)
        writer.write(frames[-1].encode())
        received = list(read_frames(await read_to_end(reader)))
    finally:
        writer.close()
    closes = [frame.payload for frame in received if frame.opcode == CLOSE]
    assert len(closes) <= 1, "one close frame"
    assert not closes or received[-1].opcode == CLOSE, "no frame after the close frame"
    code = None if not closes else int.from_bytes(closes[0][:2], "big") if closes[0] else 1005
    return code, sum(frame.opcode == PONG for frame in received)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(
    max_examples=examples(120),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(frames=st.lists(FRAMES, max_size=8), chunk=st.sampled_from([1 << 20, 4096, 7]))
@example(frames=[RawFrame(TEXT, b"{", fin=False), *[RawFrame(CONTINUATION, fin=False)] * 70], chunk=4096)
@example(frames=[RawFrame(TEXT, b"nonsense")] * 25, chunk=1 << 20)
@example(frames=[RawFrame(TEXT, b"x" * 70_000)], chunk=4096)
@example(frames=[RawFrame(PING, b"x" * 126)], chunk=1 << 20)
@example(frames=[RawFrame(TEXT, b'{"type":"ping","id":"1"}', length_bytes=8)], chunk=7)
async def test_any_frames_are_closed_with_the_right_code(
    gateway: GatewayProcess, frames: list[RawFrame], chunk: int
) -> None:
    """Any sequence of frames is answered with a close code of RFC 6455 or of the protocol, and each ping before the
    close with a pong."""
    oracle, sent, certain = Oracle(), list[RawFrame](), True
    for frame in [*frames, CLOSE_FRAME]:
        # After a close, or a large frame that isn't read, TCP may reset the connection and lose the close frame.
        certain = not oracle.codes and len(frame.payload) < FRAME_BYTES_MAX
        oracle.add(frame)
        sent.append(frame)
        if oracle.is_over:
            break
    code, pongs = await exchange(gateway, sent, chunk)
    assert code in oracle.codes or (code is None and not certain), f"closed with {code}, not {oracle.codes}"
    assert pongs == oracle.pongs or not certain
    assert gateway.process.returncode is None
    assert not any("Traceback" in line or " ERROR " in line for line in gateway.log), gateway.log


async def test_invalid_frames_dont_affect_other_connections(gateway: GatewayProcess) -> None:
    """A turn continues while a hundred other connections violate the protocol in ten ways."""
    async with client(gateway.ws_url) as c:
        await c.request("turn.start", turn="t", input="x", params={"demo": {"rate": 100, "tokens": 200}})
        sequences = [
            [RawFrame(0x3)],
            [RawFrame(TEXT, b"{}", masked=False)],
            [RawFrame(TEXT, b"{}", rsv=4)],
            [RawFrame(CONTINUATION, b"{}")],
            [RawFrame(TEXT, b"\xff")],
            [RawFrame(BINARY, b"x")],
            [RawFrame(CLOSE, b"x")],
            [RawFrame(PING, b"x" * 200)],
            [RawFrame(TEXT, b"{", fin=False), RawFrame(TEXT, b"}")],
            [RawFrame(TEXT, b"nonsense")] * 20,
        ]
        async with asyncio.TaskGroup() as group:
            for sequence in sequences * 10:
                group.create_task(exchange(gateway, [*sequence, CLOSE_FRAME], 4096))
        assert (await c.ending("t"))["type"] == "turn.completed"
    gateway.terminate()
    assert await gateway.wait() == 0
    assert not any("Traceback" in line for line in gateway.log), gateway.log


OFFERS = [
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; server_max_window_bits=8; client_no_context_takeover, x-webkit-deflate-frame",
    "permessage-deflate; server_max_window_bits=99999999999999999999",
]


async def test_compression_is_declined(gateway: GatewayProcess) -> None:
    """permessage-deflate is declined however it is offered, and a compressed frame closes the socket with 1002, so it
    is never decompressed."""
    for offer in OFFERS:
        reader, writer = await connect_websocket(gateway.url, f"Sec-WebSocket-Extensions: {offer}\r\n")
        writer.write(RawFrame(TEXT, b"\xaa\x56\x4a\x4b\xce\x4f\x49\x55\xb2\x02\x00", rsv=4).encode())
        frames = list(read_frames(await read_to_end(reader)))
        writer.close()
        assert frames[-1].opcode == CLOSE, offer
        assert frames[-1].payload[:2] == (1002).to_bytes(2, "big"), offer
