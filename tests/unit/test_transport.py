"""The HTTP transport under the SDKs, over real sockets."""

import asyncio
import gzip
import socket

import httpx2
import pytest

from providers.route import Timeouts
from providers.transport import body_of, http_client
from tests.upstream import Script, Upstream, chat, post, refusal

QUICK = Timeouts(connect_s=0.5, first_event_s=0.2, between_events_s=0.2)


async def test_passes_on(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """Request headers and body arrive, and the answer's status, headers and body come back."""
    upstream.plays(refusal(418, {"tea": True}, x_pot="round"))
    response = await post(client, upstream, headers={"authorization": "Bearer k"})
    assert await response.aread() == b'{"tea": true}'
    assert (response.status_code, response.headers["x-pot"]) == (418, "round")
    asked = await upstream.next_asked()
    assert asked.body == {"n": 1}
    assert asked.headers["authorization"] == "Bearer k"
    assert asked.headers["accept-encoding"] == "identity"
    assert "python" not in asked.headers.get("accept", "")


async def test_decompresses_once(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """A compressed body comes out plain, and no header promises another compression."""
    upstream.plays(Script((gzip.compress(b"plain"),), headers=(("content-encoding", "gzip"),)))
    response = await post(client, upstream)
    assert await response.aread() == b"plain"
    assert "content-encoding" not in response.headers


async def test_bad_compression(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """A body that isn't what its encoding says is a protocol error."""
    upstream.plays(Script((b"this is not gzip, not at all",), headers=(("content-encoding", "gzip"),)))
    response = await post(client, upstream)
    with pytest.raises(httpx2.RemoteProtocolError):
        await response.aread()
    await response.aclose()


async def test_large_request(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """A request body of megabytes, as images are, arrives whole."""
    text = "x" * 3_000_000
    response = await client.post(upstream.openai_url + "/chat/completions", json={"image": text})
    assert response.status_code == 200
    assert upstream.asked[0].body["image"] == text


async def test_connection_serves_again(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """A body that was read to its end leaves its connection for the next request."""
    for _ in range(3):
        response = await post(client, upstream)
        await response.aread()
        await response.aclose()
    assert upstream.connections == 1


async def test_no_first_event(upstream: Upstream) -> None:
    """An answer that doesn't begin is given up after the time for the first event."""
    upstream.plays(chat("a").but(delay_s=60))
    async with http_client(QUICK) as client:
        with pytest.raises(httpx2.ReadTimeout):
            await post(client, upstream)
        async with asyncio.timeout(5):
            await upstream.asked[0].disconnected.wait()


async def test_nobody_there(client: httpx2.AsyncClient) -> None:
    """A refused connection is a connect error."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"http://127.0.0.1:{closed.getsockname()[1]}/")


@pytest.mark.parametrize(
    ("url", "error"),
    [("http://no.such.host.invalid/", httpx2.ConnectError), ("ftp://127.0.0.1/", httpx2.UnsupportedProtocol)],
)
async def test_bad_address(client: httpx2.AsyncClient, url: str, error: type[Exception]) -> None:
    """An address without a host behind it, or of another protocol, is said to be that."""
    with pytest.raises(error):
        await client.get(url)


async def test_not_http(client: httpx2.AsyncClient) -> None:
    """An answer that isn't HTTP, and a connection that closes without one, are protocol errors."""
    for answer in (b"SSH-2.0-nothing\r\n\r\n", b""):

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes = answer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get(f"http://127.0.0.1:{port}/")


async def test_a_proxy(upstream: Upstream) -> None:
    """Requests go through it: in plain text by their whole address, else by a tunnel, and with its password."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        if head.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n")
            writer.close()
            await writer.wait_closed()
            return
        onward, answer = await asyncio.open_connection(*upstream.url.removeprefix("http://").split(":"))
        answer.write(head.replace(upstream.url.encode(), b"", 1))
        answer.write(await reader.readexactly(len(b'{"n":1}')))
        writer.write(await onward.readuntil(b"\r\n0\r\n\r\n"))
        answer.close()
        writer.close()
        await asyncio.gather(answer.wait_closed(), writer.wait_closed())

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        proxy = f"http://ann:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with http_client(Timeouts(), proxy) as client:
            upstream.plays(refusal(418, {"tea": True}))
            response = await post(client, upstream)
            assert (response.status_code, await response.aread()) == (418, b'{"tea": true}')
            with pytest.raises(httpx2.ProxyError):
                await client.get("https://api.example.invalid/")
    assert heads[0].startswith(f"POST {upstream.openai_url}/chat/completions HTTP/1.1".encode())
    assert heads[1].startswith(b"CONNECT api.example.invalid:443 HTTP/1.1")
    assert all(b"Proxy-Authorization: Basic YW5uOnNlY3JldA==" in head for head in heads)


async def test_tls_is_needed(client: httpx2.AsyncClient) -> None:
    """A server that doesn't speak TLS is no https server."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")


async def test_redirect_is_not_followed(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """A key goes to the configured host only: a redirect is an answer like any other."""
    upstream.plays(refusal(307, {}, location=upstream.url + "/elsewhere"))
    response = await post(client, upstream)
    await response.aread()
    assert response.status_code == 307
    assert len(upstream.asked) == 1


async def test_proxies_of_the_environment_are_ignored(
    client: httpx2.AsyncClient, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy variable that happens to be set doesn't see our requests."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    response = await post(client, upstream)
    await response.aread()
    assert response.status_code == 200


async def test_sockets_stay_awake(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """Connections probe their peer, so that one that vanished is noticed."""
    upstream.plays(chat("a").but(stall_after=0))
    response = await post(client, upstream)
    connection = body_of(response)._response.connection
    assert connection is not None
    assert connection.transport is not None
    raw = connection.transport.get_extra_info("socket")
    assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    await response.aclose()
