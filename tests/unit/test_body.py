"""An answer's body, over real sockets: its pieces, its end, its failures, its watch."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from providers.body import Body, Stalled
from providers.route import Timeouts
from providers.transport import body_of, http_client
from tests.upstream import Script, Upstream, chat, sse

QUICK = Timeouts(connect_s=0.5, first_event_s=0.2, between_events_s=0.2)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(Timeouts()) as client:
        yield client


async def post(client: httpx2.AsyncClient, upstream: Upstream, **more: object) -> httpx2.Response:
    request = client.build_request("POST", upstream.openai_url + "/chat/completions", json={"n": 1}, **more)  # type: ignore[arg-type]
    return await client.send(request, stream=True)


async def rest(body: Body) -> bytes:
    return b"".join([piece async for piece in body])


async def test_pieces_as_they_arrive(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """A body is read in the pieces in which the network brings it, without waiting for more."""
    upstream.plays(chat("a", "b").but(rate=20))
    response = await post(client, upstream)
    body = body_of(response)
    pieces = [piece async for piece in body]
    assert len(pieces) == 4
    assert b"".join(pieces) == b"".join(chat("a", "b").blocks)
    await response.aclose()


async def test_an_answer_that_is_closed_late_leaves_the_next_one_alone(
    client: httpx2.AsyncClient, upstream: Upstream
) -> None:
    """An answer that was read to its end, and is closed only while the next one on its connection is read."""
    first = await post(client, upstream)
    await rest(body_of(first))
    upstream.plays(chat("a", "b").but(rate=20))
    second = await post(client, upstream)
    await body_of(second).read()
    await first.aclose()
    async with asyncio.timeout(5):
        assert (await rest(body_of(second))).endswith(b"[DONE]\n\n")
    await second.aclose()
    assert upstream.connections == 1


async def test_pieces_are_handed_on_without_waking_the_reader(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """Until the taker has enough; what follows waits for the next who asks, and what he raises is his reader's."""
    upstream.plays(chat(*"abcdef").but(rate=50))
    body = body_of(await post(client, upstream))
    taken: list[tuple[bytes, object]] = []

    def take(piece: bytes) -> bool:
        taken.append((piece, asyncio.current_task()))
        return len(taken) < 4

    assert await body.each(take)
    assert len(taken) == 4
    assert None in {task for _, task in taken}
    await asyncio.sleep(0.1)
    assert len(taken) == 4

    def refuse(piece: bytes) -> bool:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await body.each(refuse)
    assert not await body.each(lambda piece: bool(piece))
    await body.aclose()


async def test_close_hangs_up(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """Closing an unfinished answer closes the provider's connection at once."""
    upstream.plays(chat("a", "b").but(stall_after=1))
    response = await post(client, upstream)
    await body_of(response).read()
    await response.aclose()
    async with asyncio.timeout(0.5):
        await (await upstream.next_asked()).disconnected.wait()


@pytest.mark.parametrize("script", [chat("a").but(delay_s=60), chat("a").but(stall_after=0)])
async def test_cancel_hangs_up(client: httpx2.AsyncClient, upstream: Upstream, script: Script) -> None:
    """Cancelling the reader hangs up too, before the answer's headers as well as in its body."""
    upstream.plays(script)

    async def read() -> None:
        response = await post(client, upstream)
        try:
            await body_of(response).read()
        finally:
            await response.aclose()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(read())
        asked = await upstream.next_asked()
        await asyncio.sleep(0.02)
        task.cancel()
        async with asyncio.timeout(0.5):
            await asked.disconnected.wait()


async def test_headers_are_no_event(upstream: Upstream) -> None:
    """The time for the first event goes on after the headers; then the connection is closed."""
    upstream.plays(chat("a").but(stall_after=0))
    async with http_client(QUICK) as client:
        response = await post(client, upstream)
        with pytest.raises(Stalled) as caught:
            await body_of(response).read()
        assert not caught.value.started
        async with asyncio.timeout(0.5):
            await upstream.asked[0].disconnected.wait()
        await response.aclose()


async def test_life_is_not_progress(upstream: Upstream) -> None:
    """Bytes alone don't put the watch off: only what the reader counts does."""
    upstream.plays(Script((b": alive\n\n",) * 50).but(rate=50))
    async with http_client(QUICK) as client:
        response = await post(client, upstream)
        with pytest.raises(Stalled, match=r"0\.2 s"):
            await rest(body_of(response))
        await response.aclose()


async def test_progress_puts_the_watch_off(upstream: Upstream) -> None:
    """A stream that gets on may take far longer than the time between two events, and stall later."""
    upstream.plays(Script((sse("x"),) * 10).but(rate=20, stall_after=9))
    async with http_client(QUICK) as client:
        response = await post(client, upstream)
        body = body_of(response)
        reads = 0

        async def follow() -> None:
            nonlocal reads
            while await body.read():
                reads += 1
                body.due_in(0.2)

        with pytest.raises(Stalled) as caught:
            await follow()
        assert reads >= 5
        assert caught.value.started
        await response.aclose()


async def test_slow_reader_is_not_a_stalled_provider(upstream: Upstream) -> None:
    """While nobody reads, the watch waits."""
    async with http_client(QUICK) as client:
        response = await post(client, upstream)
        body = body_of(response)
        await body.read()
        await asyncio.sleep(0.5)
        assert (await rest(body)).endswith(b"[DONE]\n\n") or upstream.asked[0].answered.is_set()
        await response.aclose()


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_cut_body(client: httpx2.AsyncClient, upstream: Upstream, how: str) -> None:
    """A body that is cut off is an error, not an end."""
    upstream.plays(chat("a", "b").but(cut=40, cut_by=how))
    response = await post(client, upstream)
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        await rest(body_of(response))
    await response.aclose()


async def test_body_without_length(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """Where neither length nor chunks say it, the connection's end is the body's."""
    upstream.plays(chat("a").but(chunked=False))
    response = await post(client, upstream)
    assert (await rest(body_of(response))).endswith(b"[DONE]\n\n")
    await response.aclose()
