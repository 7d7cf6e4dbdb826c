"""A response body: its pieces, its end, its errors and its deadline. Except for `Wire`, over real sockets."""

import asyncio
import itertools
import time
import weakref
import zlib
from types import SimpleNamespace
from typing import cast

import aiohttp
import httpx2
import pytest
from aiohttp.client_proto import ResponseHandler
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.http.body import ResponseBody
from providers.http.chunk_fast_path import TOGETHER_BYTES_MAX
from providers.http.transport import body_of, http_client
from providers.http.transport_errors import Stalled
from providers.timeouts import Timeouts
from tests.examples import examples
from tests.upstream import Script, Upstream, chat, post, sse

QUICK = Timeouts(connect_s=0.5, first_event_s=0.2, between_events_s=0.2)


async def rest(body: ResponseBody) -> bytes:
    return b"".join([piece async for piece in body])


async def test_pieces_as_they_arrive(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """A body is read to its end in the pieces in which the network delivers it, without waiting for more."""
    upstream.play(chat("a", "b").replace(stall_after=1), chat("a", "b"))
    response = await post(client, upstream)
    async with asyncio.timeout(5):
        assert await body_of(response).read() == chat("a", "b").blocks[0]
    await response.aclose()
    response = await post(client, upstream)
    assert await rest(body_of(response)) == b"".join(chat("a", "b").blocks)
    await response.aclose()


async def test_closing_a_response_late_does_not_disturb_the_next(
    client: httpx2.AsyncClient, upstream: Upstream
) -> None:
    """Closing a completely read response late doesn't disturb the next response on the same connection."""
    first = await post(client, upstream)
    await rest(body_of(first))
    upstream.play(chat("a", "b").replace(rate=20))
    second = await post(client, upstream)
    await body_of(second).read()
    await first.aclose()
    async with asyncio.timeout(5):
        assert (await rest(body_of(second))).endswith(b"[DONE]\n\n")
    await second.aclose()
    assert upstream.connections == 1


async def test_reading_pauses_after_a_slow_callback(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """Law 11: after a slow callback, reading pauses, on average for at least five times as long as it took. No data is lost."""
    upstream.play(Script((b"data: x\n\n" * 300_000,), write="whole"))
    body = body_of(await post(client, upstream))
    calls: list[tuple[float, float]] = []
    size = 0

    def consume(piece: bytes) -> bool:
        nonlocal size
        size += len(piece)
        began = time.monotonic()
        until = time.thread_time() + 0.004
        while time.thread_time() < until:
            pass
        calls.append((began, time.monotonic()))
        return True

    assert await body.read_each(consume) is False
    pauses_s = [later[0] - earlier[1] for earlier, later in itertools.pairwise(calls)]
    assert len(pauses_s) > 3
    assert size == 2_700_000
    assert sum(pauses_s) > 0.02 * len(pauses_s)


async def test_a_finished_response_is_freed_without_the_collector(
    client: httpx2.AsyncClient, upstream: Upstream
) -> None:
    """After a response has ended, the body and its reader form no reference cycle, so that they are freed at once."""
    upstream.play(chat("a", "b"))
    response = await post(client, upstream)

    class Reader:
        def __init__(self) -> None:
            self.body = body_of(response)

        def consume(self, piece: bytes) -> bool:
            return bool(piece)

    reader = Reader()
    assert await reader.body.read_each(reader.consume) is False
    await response.aclose()
    reference = weakref.ref(reader)
    del reader
    assert reference() is None


async def test_pieces_are_passed_on_without_waking_the_reader(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """Pieces go to the callback and don't wake the reader's task, until the callback returns false or raises an error."""
    upstream.play(chat(*"abcdef").replace(rate=10))
    body = body_of(await post(client, upstream))
    pieces: list[tuple[bytes, object]] = []

    def consume(piece: bytes) -> bool:
        pieces.append((piece, asyncio.current_task()))
        return len(pieces) < 4

    assert await body.read_each(consume)
    assert len(pieces) == 4
    assert None in {task for _, task in pieces}
    await asyncio.sleep(0.1)
    assert len(pieces) == 4

    def refuse(piece: bytes) -> bool:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await body.read_each(refuse)
    assert not await body.read_each(lambda piece: bool(piece))
    await body.aclose()


async def test_close_disconnects(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """Closing an unfinished response closes the connection to the provider at once."""
    upstream.play(chat("a", "b").replace(stall_after=1))
    response = await post(client, upstream)
    await body_of(response).read()
    await response.aclose()
    async with asyncio.timeout(5):
        await (await upstream.wait_for_request()).disconnected.wait()


@pytest.mark.parametrize("script", [chat("a").replace(delay_s=60), chat("a").replace(stall_after=0)])
async def test_cancel_disconnects(client: httpx2.AsyncClient, upstream: Upstream, script: Script) -> None:
    """Cancelling the reader disconnects too, both before the response headers and in the body."""
    upstream.play(script)

    async def read() -> None:
        response = await post(client, upstream)
        try:
            await body_of(response).read()
        finally:
            await response.aclose()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(read())
        received = await upstream.wait_for_request()
        await asyncio.sleep(0.02)
        task.cancel()
        async with asyncio.timeout(5):
            await received.disconnected.wait()


async def test_headers_are_not_the_first_event(upstream: Upstream) -> None:
    """The first-event timeout continues after the headers. When it expires, the connection is closed."""
    upstream.play(chat("a").replace(stall_after=0))
    async with http_client(QUICK) as client:
        response = await post(client, upstream)
        with pytest.raises(Stalled) as caught:
            await body_of(response).read()
        assert not caught.value.started
        async with asyncio.timeout(5):
            await upstream.requests[0].disconnected.wait()
        await response.aclose()


async def test_bytes_alone_are_not_progress(upstream: Upstream) -> None:
    """Bytes alone don't extend the deadline. Only `extend_deadline` does."""
    upstream.play(Script((b": alive\n\n",) * 50).replace(rate=50))
    async with http_client(QUICK) as client:
        response = await post(client, upstream)
        with pytest.raises(Stalled, match=r"0\.2 s"):
            await rest(body_of(response))
        await response.aclose()


async def test_progress_extends_the_deadline(upstream: Upstream) -> None:
    """A stream that makes progress may last much longer than the timeout between events. If it stops, it has stalled."""
    between_s, rate, events = 0.5, 20, 20
    upstream.play(Script((sse("x"),) * (events + 1)).replace(rate=rate, stall_after=events))
    time = asyncio.get_running_loop().time
    async with http_client(Timeouts(first_event_s=5, between_events_s=between_s)) as client:
        response = await post(client, upstream)
        body = body_of(response)
        began = time()

        async def read_with_progress() -> None:
            while await body.read():
                body.extend_deadline(between_s)

        with pytest.raises(Stalled) as caught:
            await read_with_progress()
        assert time() - began > events / rate
        assert caught.value.started
        await response.aclose()


async def test_slow_reader_is_not_a_stalled_provider(upstream: Upstream) -> None:
    """The deadline doesn't apply while the body isn't being read."""
    async with http_client(QUICK) as client:
        response = await post(client, upstream)
        body = body_of(response)
        await body.read()
        await asyncio.sleep(0.5)
        assert (await rest(body)).endswith(b"[DONE]\n\n") or upstream.requests[0].answered.is_set()
        await response.aclose()


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_cut_body(client: httpx2.AsyncClient, upstream: Upstream, how: str) -> None:
    """A body that is cut off is an error, not an end."""
    upstream.play(chat("a", "b").replace(cut=40, cut_by=how))
    response = await post(client, upstream)
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        await rest(body_of(response))
    await response.aclose()


async def test_body_without_length(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """A body with neither a length nor chunks ends when the connection is closed."""
    upstream.play(chat("a").replace(chunked=False))
    response = await post(client, upstream)
    assert (await rest(body_of(response))).endswith(b"[DONE]\n\n")
    await response.aclose()


class Wire(asyncio.Transport):
    """An in-memory connection that has received a response's head."""

    def __init__(self, head: bytes) -> None:
        super().__init__()
        self.parser = ResponseHandler(asyncio.get_running_loop())
        self._protocol: asyncio.Protocol = self.parser
        self.parser.connection_made(self)
        self.parser.set_response_params()
        self.parser.data_received(head)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def deliver(self, data: bytes) -> None:
        """Deliver the data in one piece."""
        self._protocol.data_received(data)

    async def body(self) -> ResponseBody:
        """Return the body that follows the head."""
        head, content = await self.parser.read()
        answer = SimpleNamespace(
            content=content,
            connection=SimpleNamespace(transport=self),
            closed=False,
            close=self.close,
            headers=head.headers,
        )
        return ResponseBody(cast("aiohttp.ClientResponse", answer), 60, asyncio.get_running_loop().time() + 60)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
CONTENT = st.one_of(
    st.sampled_from(
        [b"data: {}\n\n", b"\n", b"5\r\nabcd\n\r\n", b"a\r\n", b"\r\n", b"0\r\n\r\n", b"3\r\nabc\r\n", b"x" * 300]
    ),
    st.binary(min_size=1, max_size=20),
)


def chunked(contents: list[bytes]) -> bytes:
    """Return the contents as chunks, followed by the empty chunk that ends the body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(content), content) for content in [*contents, b""])


@settings(deadline=None, max_examples=examples(100))
@given(st.lists(CONTENT, max_size=8), st.lists(st.integers(1, 40), max_size=30), st.integers(1, 9))
async def test_chunks_split_anywhere(contents: list[bytes], cuts: list[int], pieces_per_read: int) -> None:
    """The content of chunks is read correctly, wherever the network splits them and whether or not the reader waits."""
    wire = Wire(CHUNKED + b"\r\n")
    body = await wire.body()
    pieces: list[bytes] = []

    def consume(piece: bytes) -> bool:
        pieces.append(piece)
        return len(pieces) % pieces_per_read > 0

    async def read() -> None:
        while await body.read_each(consume):
            await asyncio.sleep(0)

    reading = asyncio.get_running_loop().create_task(read())
    raw = chunked(contents)
    for size in [*cuts, len(raw)]:
        await asyncio.sleep(0)
        if raw:
            wire.deliver(raw[:size])
        raw = raw[size:]
    await asyncio.wait_for(reading, 5)
    assert b"".join(pieces) == b"".join(contents)
    await body.aclose()


@pytest.mark.parametrize("way", ["plain", "gzip"])
async def test_whole_chunks_bypass_the_parser(way: str) -> None:
    """Whole chunks of events bypass aiohttp's parser, except in an encoded response. An invalid chunk is an error."""
    encoding = b"Content-Encoding: gzip\r\n" if way == "gzip" else b""
    wire = Wire(CHUNKED + encoding + b"\r\n")
    body = await wire.body()
    pack = zlib.compressobj(wbits=31)
    events = [b"data: %d\n\n" % n for n in range(6)]
    packed = [pack.compress(event) + pack.flush(zlib.Z_SYNC_FLUSH) for event in events]
    contents = packed if way == "gzip" else events
    pieces: list[bytes] = []

    def consume(piece: bytes) -> bool:
        pieces.append(piece)
        return True

    reading = asyncio.get_running_loop().create_task(body.read_each(consume))
    await asyncio.sleep(0)
    parsed = []
    for content in contents:
        wire.deliver(b"%x\r\n%b\r\n" % (len(content), content))
        parsed.append(body._content.total_bytes)
    assert b"".join(pieces) == b"".join(events)
    assert (parsed[0] == parsed[-1]) is (way == "plain")
    wire.deliver(b"no chunk at all\r\n")
    with pytest.raises(httpx2.RemoteProtocolError):
        await reading
    await body.aclose()


async def test_the_chunks_of_a_read_are_passed_together() -> None:
    """They are one piece, so that they are decoded together. A long chunk is a piece of its own."""
    wire = Wire(CHUNKED + b"\r\n")
    body = await wire.body()
    pieces: list[bytes] = []

    def consume(piece: bytes) -> bool:
        pieces.append(piece)
        return True

    reading = asyncio.get_running_loop().create_task(body.read_each(consume))
    await asyncio.sleep(0)
    small, long = b"data: 1\n\n", b"data: %b\n\n" % (b"x" * TOGETHER_BYTES_MAX)
    wire.deliver(b"%x\r\n%b\r\n" % (len(small), small))
    wire.deliver(chunked([small, small, long, small, small])[:-5])
    assert pieces == [small, small * 2, long, small * 2]
    wire.deliver(b"0\r\n\r\n")
    await reading
    await body.aclose()


async def test_read_start(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """`read_start` returns what arrives in time, up to `size` bytes. A complete body leaves the connection open."""
    upstream.play(
        Script((b"abc", b"def")),
        Script((b"abc", b"def", b""), stall_after=2),
        Script((b"abc", b"def"), cut=4),
        Script((b"abc", b"def"), stall_after=1),
    )
    for size, got in ((6, b"abcdef"), (4, b"abcd"), (9, b"abcd"), (9, b"abc")):
        body = body_of(await post(client, upstream))
        assert await body.read_start(size, 0.2) == got
    connections = [received.connection for received in upstream.requests]
    assert connections == [1, 1, 2, 3]
