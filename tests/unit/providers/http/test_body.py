"""An answer's body, over real sockets: its pieces, its end, its failures, its watch."""

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

from providers.http.body import ResponseBody, Stalled
from providers.http.transport import body_of, http_client
from providers.route import Timeouts
from tests.examples import examples
from tests.upstream import Script, Upstream, chat, post, sse

QUICK = Timeouts(connect_s=0.5, first_event_s=0.2, between_events_s=0.2)


async def rest(body: ResponseBody) -> bytes:
    return b"".join([piece async for piece in body])


async def test_pieces_as_they_arrive(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """A body is read in the pieces in which the network brings it, without waiting for more, to its end."""
    upstream.play(chat("a", "b").replace(stall_after=1), chat("a", "b"))
    response = await post(client, upstream)
    async with asyncio.timeout(5):
        assert await body_of(response).read() == chat("a", "b").blocks[0]
    await response.aclose()
    response = await post(client, upstream)
    assert await rest(body_of(response)) == b"".join(chat("a", "b").blocks)
    await response.aclose()


async def test_an_answer_that_is_closed_late_leaves_the_next_one_alone(
    client: httpx2.AsyncClient, upstream: Upstream
) -> None:
    """An answer that was read to its end, and is closed only while the next one on its connection is read."""
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


async def test_a_provider_that_sends_faster_than_can_be_read_is_read_more_slowly(
    client: httpx2.AsyncClient, upstream: Upstream
) -> None:
    """Law 11: what took long is followed by a rest of nine times as long. Nothing is lost."""
    upstream.play(Script((b"data: x\n\n" * 300_000,), write="whole"))
    body = body_of(await post(client, upstream))
    moments: list[tuple[float, float]] = []
    size = 0

    def consume(piece: bytes) -> bool:
        nonlocal size
        size += len(piece)
        began = time.monotonic()
        until = time.thread_time() + 0.004
        while time.thread_time() < until:
            pass
        moments.append((began, time.monotonic()))
        return True

    assert await body.read_each(consume) is False
    rests = [later[0] - earlier[1] for earlier, later in itertools.pairwise(moments)]
    assert len(rests) > 3
    assert size == 2_700_000
    assert sum(rests) > 0.02 * len(rests)


async def test_an_answer_that_is_over_is_held_by_nobody(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """Who takes its pieces holds it: once it is over they don't hold each other, and no collector has to find them."""
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


async def test_pieces_are_handed_on_without_waking_the_reader(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """Until the taker has enough; what follows waits for the next who asks, and what he raises is his reader's."""
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


async def test_close_hangs_up(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """Closing an unfinished answer closes the provider's connection at once."""
    upstream.play(chat("a", "b").replace(stall_after=1))
    response = await post(client, upstream)
    await body_of(response).read()
    await response.aclose()
    async with asyncio.timeout(5):
        await (await upstream.wait_for_request()).disconnected.wait()


@pytest.mark.parametrize("script", [chat("a").replace(delay_s=60), chat("a").replace(stall_after=0)])
async def test_cancel_hangs_up(client: httpx2.AsyncClient, upstream: Upstream, script: Script) -> None:
    """Cancelling the reader hangs up too, before the answer's headers as well as in its body."""
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


async def test_headers_are_no_event(upstream: Upstream) -> None:
    """The time for the first event goes on after the headers; then the connection is closed."""
    upstream.play(chat("a").replace(stall_after=0))
    async with http_client(QUICK) as client:
        response = await post(client, upstream)
        with pytest.raises(Stalled) as caught:
            await body_of(response).read()
        assert not caught.value.started
        async with asyncio.timeout(5):
            await upstream.requests[0].disconnected.wait()
        await response.aclose()


async def test_life_is_not_progress(upstream: Upstream) -> None:
    """Bytes alone don't put the watch off: only what the reader counts does."""
    upstream.play(Script((b": alive\n\n",) * 50).replace(rate=50))
    async with http_client(QUICK) as client:
        response = await post(client, upstream)
        with pytest.raises(Stalled, match=r"0\.2 s"):
            await rest(body_of(response))
        await response.aclose()


async def test_progress_puts_the_watch_off(upstream: Upstream) -> None:
    """A stream that gets on may take far longer than the time between two events, and stall later."""
    between_s, rate, events = 0.5, 20, 20
    upstream.play(Script((sse("x"),) * (events + 1)).replace(rate=rate, stall_after=events))
    time = asyncio.get_running_loop().time
    async with http_client(Timeouts(first_event_s=5, between_events_s=between_s)) as client:
        response = await post(client, upstream)
        body = body_of(response)
        began = time()

        async def follow() -> None:
            while await body.read():
                body.extend_deadline(between_s)

        with pytest.raises(Stalled) as caught:
            await follow()
        assert time() - began > events / rate
        assert caught.value.started
        await response.aclose()


async def test_slow_reader_is_not_a_stalled_provider(upstream: Upstream) -> None:
    """While nobody reads, the watch waits."""
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
    """Where neither length nor chunks say it, the connection's end is the body's."""
    upstream.play(chat("a").replace(chunked=False))
    response = await post(client, upstream)
    assert (await rest(body_of(response))).endswith(b"[DONE]\n\n")
    await response.aclose()


class Wire(asyncio.Transport):
    """A connection in memory, on which an answer's head has arrived."""

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

    def arrives(self, data: bytes) -> None:
        """The network brings this in one piece."""
        self._protocol.data_received(data)

    async def body(self) -> ResponseBody:
        """The body behind the head."""
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
    """The contents as chunks, and the end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(content), content) for content in [*contents, b""])


@settings(deadline=None, max_examples=examples(300))
@given(st.lists(CONTENT, max_size=8), st.lists(st.integers(1, 40), max_size=30), st.integers(1, 9))
async def test_chunks_are_the_same_however_the_network_cuts_them(
    contents: list[bytes], cuts: list[int], takes: int
) -> None:
    """Whatever they hold, and whether their reader waits or not."""
    wire = Wire(CHUNKED + b"\r\n")
    body = await wire.body()
    pieces: list[bytes] = []

    def consume(piece: bytes) -> bool:
        pieces.append(piece)
        return len(pieces) % takes > 0

    async def read() -> None:
        while await body.read_each(consume):
            await asyncio.sleep(0)

    reading = asyncio.get_running_loop().create_task(read())
    raw = chunked(contents)
    for size in [*cuts, len(raw)]:
        await asyncio.sleep(0)
        if raw:
            wire.arrives(raw[:size])
        raw = raw[size:]
    await asyncio.wait_for(reading, 5)
    assert b"".join(pieces) == b"".join(contents)
    await body.aclose()


@pytest.mark.parametrize("way", ["plain", "gzip"])
async def test_whole_chunks_of_events_go_past_the_parser(way: str) -> None:
    """But for those of an encoded answer, and what is no chunk is the parser's to refuse."""
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
        wire.arrives(b"%x\r\n%b\r\n" % (len(content), content))
        parsed.append(body._content.total_bytes)
    assert b"".join(pieces) == b"".join(events)
    assert (parsed[0] == parsed[-1]) is (way == "plain")
    wire.arrives(b"no chunk at all\r\n")
    with pytest.raises(httpx2.RemoteProtocolError):
        await reading
    await body.aclose()


async def test_a_beginning(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """So many bytes, or what comes in time; whoever has got all leaves the connection to the next."""
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
