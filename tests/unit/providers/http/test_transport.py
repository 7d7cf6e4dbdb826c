"""The HTTP transport of the SDKs, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import trustme
import uvloop

from providers.http.transport import body_of, http_client, tls_context
from providers.timeouts import Timeouts
from tests.upstream import Script, Upstream, chat, error_response, post

QUICK = Timeouts(connect_s=0.5, first_event_s=0.2, between_events_s=0.2)


async def test_request_and_response(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """Request headers and body reach the server, and the response's status, headers and body are returned."""
    upstream.play(error_response(418, {"tea": True}, x_pot="round"))
    response = await post(client, upstream, headers={"authorization": "Bearer k"})
    assert await response.aread() == b'{"tea": true}'
    assert (response.status_code, response.headers["x-pot"]) == (418, "round")
    received = await upstream.wait_for_request()
    assert received.body == {"n": 1}
    assert received.headers["authorization"] == "Bearer k"
    assert received.headers["accept-encoding"] == "identity"
    assert "python" not in received.headers.get("accept", "")


async def test_decompression(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """A compressed body is decompressed, and its `content-encoding` header is removed."""
    upstream.play(Script((gzip.compress(b"plain"),), headers=(("content-encoding", "gzip"),)))
    response = await post(client, upstream)
    assert await response.aread() == b"plain"
    assert "content-encoding" not in response.headers


async def test_bad_compression(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """A body that doesn't match its encoding is a protocol error."""
    upstream.play(Script((b"this is not gzip, not at all",), headers=(("content-encoding", "gzip"),)))
    response = await post(client, upstream)
    with pytest.raises(httpx2.RemoteProtocolError):
        await response.aread()
    await response.aclose()


async def test_large_request(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """A request body of several megabytes, as with images, is sent whole."""
    text = "x" * 3_000_000
    response = await client.post(upstream.openai_url + "/chat/completions", json={"image": text})
    assert response.status_code == 200
    assert upstream.requests[0].body["image"] == text


async def test_connection_is_reused(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """After a body is read to its end, its connection is reused for the next request."""
    for _ in range(3):
        response = await post(client, upstream)
        await response.aread()
        await response.aclose()
    assert upstream.connections == 1


async def test_no_first_event(upstream: Upstream) -> None:
    """A response that doesn't start within the first-event timeout is a read timeout."""
    upstream.play(chat("a").replace(delay_s=60))
    async with http_client(QUICK) as client:
        with pytest.raises(httpx2.ReadTimeout):
            await post(client, upstream)
        async with asyncio.timeout(5):
            await upstream.requests[0].disconnected.wait()


async def test_refused_connection(client: httpx2.AsyncClient) -> None:
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
    """A host that doesn't exist and an unsupported protocol each raise their own error."""
    with pytest.raises(error):
        await client.get(url)


async def test_not_http(client: httpx2.AsyncClient) -> None:
    """A response that isn't HTTP, and a connection that closes without one, are protocol errors."""
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
    """An http request goes through the proxy with its absolute URL. For https, the proxy is asked for a tunnel.

    Both have the proxy's password. A tunnel that the proxy refuses is a proxy error.
    """
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        if head.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n")
            writer.close()
            await writer.wait_closed()
            return
        answer, onward = await asyncio.open_connection(*upstream.url.removeprefix("http://").split(":"))
        onward.write(head.replace(upstream.url.encode(), b"", 1))
        onward.write(await reader.readexactly(len(b'{"n":1}')))
        writer.write(await answer.readuntil(b"\r\n0\r\n\r\n"))
        onward.close()
        writer.close()
        await asyncio.gather(onward.wait_closed(), writer.wait_closed())

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        proxy = f"http://ann:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with http_client(Timeouts(), proxy) as client:
            upstream.play(error_response(418, {"tea": True}))
            response = await post(client, upstream)
            assert (response.status_code, await response.aread()) == (418, b'{"tea": true}')
            with pytest.raises(httpx2.ProxyError):
                await client.get("https://api.example.invalid/")
    assert heads[0].startswith(f"POST {upstream.openai_url}/chat/completions HTTP/1.1".encode())
    assert heads[1].startswith(b"CONNECT api.example.invalid:443 HTTP/1.1")
    assert all(b"Proxy-Authorization: Basic YW5uOnNlY3JldA==" in head for head in heads)


class Tunnels:
    """A proxy that opens tunnels. `heads` holds the CONNECT requests, and `carried` what the clients sent."""

    def __init__(self) -> None:
        self.address = ""
        self.heads: list[bytes] = []
        self.carried = b""
        self._serving: set[asyncio.Task[None]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())  # type: ignore[arg-type]
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        host, port = self.heads[-1].split()[1].decode().split(":")
        answer, onward = await asyncio.open_connection(host, port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def there() -> None:
            while data := await reader.read(65536):
                self.carried += data
                onward.write(data)

        async def back() -> None:
            while data := await answer.read(65536):
                writer.write(data)

        ways = {asyncio.get_running_loop().create_task(way()) for way in (there, back)}
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, onward):
            end.close()
        await asyncio.gather(*ways, writer.wait_closed(), onward.wait_closed(), return_exceptions=True)

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Tunnels]:
        """Open a proxy on a free port, and wait for its connections at the end."""
        tunnels = cls()
        async with await asyncio.start_server(tunnels._serve, "127.0.0.1", 0) as server:
            tunnels.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield tunnels
            await asyncio.gather(*tunnels._serving)


async def through_a_tunnel(server_context: ssl.SSLContext) -> None:
    """Read two streams through one tunnel, and check that the proxy sees only the tunnel's address."""
    async with Upstream(server_context) as upstream, Tunnels.open() as tunnels:
        address = upstream.url.removeprefix("https://")
        async with http_client(Timeouts(), f"http://ann:secret@{tunnels.address}") as client:
            for words in (("Hello", "."), ("Again",)):
                upstream.play(chat(*words))
                response = await post(client, upstream, headers={"authorization": "Bearer sk-canary"})
                assert await body_of(response).read()
                await response.aread()
                await response.aclose()
    (head,) = tunnels.heads
    assert head.startswith(f"CONNECT {address} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic YW5uOnNlY3JldA==" in head
    assert b"sk-canary" not in head + tunnels.carried
    assert [received.headers["authorization"] for received in upstream.requests] == ["Bearer sk-canary"] * 2
    assert all("proxy-authorization" not in received.headers for received in upstream.requests)


@pytest.fixture
def server_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """The TLS context of a server whose own authority is trusted through SSL_CERT_FILE."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    tls_context.cache_clear()
    yield context
    tls_context.cache_clear()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_https_through_a_proxy(
    server_context: ssl.SSLContext, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Requests share a tunnel through the proxy, on asyncio and uvloop, and TLS runs between client and provider."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(through_a_tunnel(server_context))


async def test_untrusted_certificate_through_a_tunnel(
    server_context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the server at the end of a tunnel has an untrusted certificate, it gets no request."""
    monkeypatch.delenv("SSL_CERT_FILE")
    tls_context.cache_clear()
    async with Upstream(server_context) as upstream, Tunnels.open() as tunnels:
        async with http_client(Timeouts(), f"http://{tunnels.address}") as client:
            with pytest.raises(httpx2.ConnectError):
                await post(client, upstream)
    assert len(tunnels.heads) == 1
    assert upstream.requests == []


async def test_https_requires_tls(client: httpx2.AsyncClient) -> None:
    """An https request to a server without TLS is a connect error."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")


async def test_redirect_is_not_followed(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """A redirect isn't followed, so that a key is sent only to the configured host."""
    upstream.play(error_response(307, {}, location=upstream.url + "/elsewhere"))
    response = await post(client, upstream)
    await response.aread()
    assert response.status_code == 307
    assert len(upstream.requests) == 1


async def test_proxies_of_the_environment_are_ignored(
    client: httpx2.AsyncClient, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxy variables of the environment are ignored."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    response = await post(client, upstream)
    await response.aread()
    assert response.status_code == 200


async def test_keep_alive_is_enabled(client: httpx2.AsyncClient, upstream: Upstream) -> None:
    """Connections have keep-alive enabled, so that a lost peer is detected, and send small packets at once."""
    upstream.play(chat("a").replace(stall_after=0))
    response = await post(client, upstream)
    connection = body_of(response)._response.connection
    assert connection is not None
    assert connection.transport is not None
    raw = connection.transport.get_extra_info("socket")
    assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    await response.aclose()
