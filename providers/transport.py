"""The HTTP client under the SDKs: their httpx2 transport, on aiohttp's connections, and a body with a watch.

The SDK builds, signs and sends a request; the answer's body is read here, in the pieces in which it arrives.
"""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
from collections.abc import AsyncIterator
from functools import cache
from typing import Any, Final

import aiohttp
import httpx2
from yarl import URL

from providers.route import Timeouts

KEEPALIVE_IDLE_S: Final = 30
KEEPALIVE_EVERY_S: Final = 10
KEEPALIVE_PROBES: Final = 3
IDLE_CONNECTION_S: Final = 60.0
BODY_PIECE_BYTES: Final = 512 * 1024
"""A longer request body is written in pieces, so that the loop isn't held."""

_BODY: Final = "turnwire.body"
# aiohttp has decoded and unframed the body already: these would have it done twice.
_SPENT_HEADERS: Final = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})

_MAPPED: Final[tuple[tuple[type[BaseException], type[httpx2.TransportError]], ...]] = (
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (TimeoutError, httpx2.ReadTimeout),
    (aiohttp.ClientProxyConnectionError, httpx2.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx2.ProxyError),
    (aiohttp.ClientConnectorError, httpx2.ConnectError),
    (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx2.UnsupportedProtocol),
    (aiohttp.ServerDisconnectedError, httpx2.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx2.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx2.RemoteProtocolError),
)


class Stalled(httpx2.ReadTimeout):
    """Nothing that counts came for `waited_s`; `started`: something had come before."""

    def __init__(self, waited_s: float, *, started: bool) -> None:
        super().__init__(f"nothing came for {waited_s:g} s")
        self.waited_s = waited_s
        self.started = started


class Body(httpx2.AsyncByteStream):
    """An answer's body. Its watch closes the connection when `due_in` was not called in time.

    The watch is one lazy timer: putting it off is an assignment, not a timer's cancelling and making.
    """

    def __init__(self, response: aiohttp.ClientResponse, waited_s: float, due: float) -> None:
        self._response = response
        self._content = response.content
        self._loop = asyncio.get_running_loop()
        self._waited_s = waited_s
        self._due = due
        self._waiting = False
        self._started = False
        self._stalled: Stalled | None = None
        self._timer = self._loop.call_at(due, self._watch)

    async def read(self) -> bytes:
        """What has arrived, or the next that arrives; empty at the end. Raises httpx2's transport errors."""
        self._waiting = True
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise self._stalled or _mapped(error) from error
        finally:
            self._waiting = False

    def due_in(self, seconds: float) -> None:
        """Something that counts has come; the next of it is due in so many seconds."""
        self._started = True
        self._waited_s = seconds
        self._due = self._loop.time() + seconds
        if self._due < self._timer.when():
            # The first event may take longer than those after it: then the timer is late, once.
            self._timer.cancel()
            self._timer = self._loop.call_at(self._due, self._watch)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read():
            yield piece

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end: then it may serve again."""
        self._timer.cancel()
        if not self._response.closed or self._response.connection is not None:
            self._response.close()
            # The transport closes its socket in the loop's next pass: when this returns, that has been.
            await asyncio.sleep(0)

    def _watch(self) -> None:
        now = self._loop.time()
        if not self._waiting:
            # Nobody is waiting: what makes this stream late is its reader, not its provider.
            self._due = now + self._waited_s
        if now < self._due:
            self._timer = self._loop.call_at(self._due, self._watch)
            return
        self._stalled = Stalled(self._waited_s, started=self._started)
        self._response.close()


def body_of(response: httpx2.Response) -> Body:
    """The body of a response that came through `HttpTransport`."""
    body = response.extensions[_BODY]
    assert isinstance(body, Body)
    return body


class HttpTransport(httpx2.AsyncBaseTransport):
    """httpx2's transport on one aiohttp session. The environment's proxies count only with `trust_env`."""

    def __init__(self, timeouts: Timeouts, proxy: str = "", *, trust_env: bool = False) -> None:
        self._timeouts = timeouts
        self._proxy = proxy or None
        self._trust_env = trust_env
        self._session: aiohttp.ClientSession | None = None
        self._ssl: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send; returns with the answer's headers. `timeout["read"]` bounds the wait for its first event."""
        session = self._session or self._open()
        first_s: float = request.extensions.get("timeout", {}).get("read") or self._timeouts.first_event_s
        due = asyncio.get_running_loop().time() + first_s
        content = await request.aread()
        try:
            async with asyncio.timeout_at(due):
                response = await session.request(
                    request.method,
                    URL(str(request.url), encoded=True),
                    headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
                    data=content if len(content) <= BODY_PIECE_BYTES else io.BytesIO(content),
                    allow_redirects=False,
                    ssl=self._tls() if request.url.scheme == "https" else True,
                )
        except (aiohttp.ClientError, OSError) as error:
            raise _mapped(error) from error
        body = Body(response, first_s, due)
        return httpx2.Response(
            response.status,
            headers=[(name, value) for name, value in response.raw_headers if name.lower() not in _SPENT_HEADERS],
            stream=body,
            extensions={_BODY: body},
        )

    async def aclose(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            # No limit: a stream holds its connection for minutes, and one process has a thousand of them.
            connector=aiohttp.TCPConnector(
                limit=0, socket_factory=_socket, keepalive_timeout=IDLE_CONNECTION_S, ttl_dns_cache=60
            ),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._timeouts.connect_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            proxy=self._proxy,
            trust_env=self._trust_env,
        )
        return self._session

    def _tls(self) -> ssl.SSLContext:
        if self._ssl is None:
            self._ssl = tls_context()
        return self._ssl


@cache
def tls_context() -> ssl.SSLContext:
    """One for all: to read the trusted certificates takes longer than to open a connection."""
    return httpx2.create_ssl_context()


def http_client(timeouts: Timeouts, proxy: str = "") -> httpx2.AsyncClient:
    """The client to hand to an SDK. A redirect is an error: a key is sent to the configured host only."""
    return httpx2.AsyncClient(
        transport=HttpTransport(timeouts, proxy),
        timeout=httpx2.Timeout(timeouts.first_event_s, connect=timeouts.connect_s),
        follow_redirects=False,
        # Compressing a stream of small events delays them and costs more than it saves.
        headers={"accept-encoding": "identity"},
        trust_env=False,
    )


def _mapped(error: BaseException) -> httpx2.TransportError:
    kind = next((to for source, to in _MAPPED if isinstance(error, source)), httpx2.ReadError)
    return kind(f"{type(error).__name__}: {error}")


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket on which a peer that vanished is noticed within a minute."""
    made = socket.socket(family=address[0], type=address[1], proto=address[2])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_EVERY_S),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made
