"""The HTTP client of the SDKs: an httpx2 transport on aiohttp's connections.

The SDK builds, signs and sends a request. The body of the answer is read without the SDK (`body.py`).
"""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
from functools import cache, lru_cache
from typing import Any, Final

import aiohttp
import httpx2
from multidict import istr
from yarl import URL

from providers.http.body import ResponseBody
from providers.http.transport_errors import ERROR_BODY_BYTES_MAX, map_error
from providers.timeouts import Timeouts

KEEPALIVE_IDLE_S: Final = 30
KEEPALIVE_EVERY_S: Final = 10
KEEPALIVE_PROBES: Final = 3
IDLE_CONNECTION_S: Final = 60.0
ERROR_BODY_S: Final = 5.0
"""How long to wait for the body of an error response. The status is its most important part."""
BODY_PIECE_BYTES: Final = 512 * 1024
"""A longer request body is written in pieces, so that it doesn't block the loop."""

_BODY_EXTENSION: Final = "turnwire.body"
# aiohttp has already decoded and unframed the body. With these headers httpx2 would do it again.
_DECODED_HEADERS: Final = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})

# The provider chooses the charset in this header, and some charsets are slow to decode.
_TYPE_HEADERS: Final = frozenset({b"content-type"})


def body_of(response: httpx2.Response) -> ResponseBody:
    """Return the body of a response that came through `HttpTransport`."""
    body = response.extensions[_BODY_EXTENSION]
    assert isinstance(body, ResponseBody)
    return body


class HttpTransport(httpx2.AsyncBaseTransport):
    """An httpx2 transport on one aiohttp session. Proxies set in environment variables aren't used."""

    def __init__(self, timeouts: Timeouts, proxy: str = "") -> None:
        self._timeouts = timeouts
        self._proxy = proxy or None
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send `request` and return the response once its headers arrive. An error response has only the start of its body.

        The extension `timeout["read"]`, in seconds, bounds the wait for the first event. Raise httpx2's transport
        errors.
        """
        session = self._session or self._open_session()
        timeout_s: float = request.extensions.get("timeout", {}).get("read") or self._timeouts.first_event_s
        deadline = asyncio.get_running_loop().time() + timeout_s
        content = await request.aread()
        try:
            async with asyncio.timeout_at(deadline):
                response = await session.request(
                    request.method,
                    URL(str(request.url), encoded=True),
                    headers=[_header(name, value) for name, value in request.headers.raw],
                    data=content if len(content) <= BODY_PIECE_BYTES else io.BytesIO(content),
                    allow_redirects=False,
                    ssl=tls_context() if request.url.scheme == "https" else True,
                )
        except (aiohttp.ClientError, OSError) as error:
            raise map_error(error) from error
        body = ResponseBody(response, timeout_s, deadline)
        failed = not 200 <= response.status < 300
        dropped = _DECODED_HEADERS | _TYPE_HEADERS if failed else _DECODED_HEADERS
        headers = [(name, value) for name, value in response.raw_headers if name.lower() not in dropped]
        if failed:
            # The SDK would read and decode the whole body of an error response, so bound it here.
            content = await body.read_start(ERROR_BODY_BYTES_MAX, ERROR_BODY_S)
            return httpx2.Response(
                response.status, headers=headers, content=content, extensions={_BODY_EXTENSION: body}
            )
        return httpx2.Response(response.status, headers=headers, stream=body, extensions={_BODY_EXTENSION: body})

    async def aclose(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            # No limit: a stream uses its connection for minutes, and one process has a thousand streams.
            connector=aiohttp.TCPConnector(
                limit=0, socket_factory=_create_socket, keepalive_timeout=IDLE_CONNECTION_S, ttl_dns_cache=60
            ),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._timeouts.connect_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            proxy=self._proxy,
        )
        return self._session


@lru_cache(maxsize=256)
def _header(name: bytes, value: bytes) -> tuple[istr, str]:
    """Return a header as aiohttp keeps it until the end of the response. Nearly all requests have the same ones."""
    return istr(name.decode("latin-1")), value.decode("latin-1")


@cache
def tls_context() -> ssl.SSLContext:
    """Return the shared TLS context. Loading the trusted certificates takes longer than opening a connection."""
    return httpx2.create_ssl_context()


def http_client(timeouts: Timeouts, proxy: str = "") -> httpx2.AsyncClient:
    """Return the client for an SDK. A redirect is an error, because a key is sent to the configured host only."""
    return httpx2.AsyncClient(
        transport=HttpTransport(timeouts, proxy),
        timeout=httpx2.Timeout(timeouts.first_event_s, connect=timeouts.connect_s),
        follow_redirects=False,
        # Compressing a stream of small events delays them and costs more than it saves.
        headers={"accept-encoding": "identity"},
        trust_env=False,
    )


def _create_socket(address: tuple[Any, ...]) -> socket.socket:
    """Return a socket with keepalive, which detects a vanished peer within a minute."""
    sock = socket.socket(family=address[0], type=address[1], proto=address[2])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_EVERY_S),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return sock
