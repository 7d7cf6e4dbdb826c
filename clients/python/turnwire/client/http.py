"""HTTP/1.1 with one request per connection, on asyncio's streams: as much as this client needs of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import os
import ssl as ssl_module
from collections.abc import Mapping
from types import TracebackType
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from turnwire.client.errors import ConnectFailed
from turnwire.client.lifetime import abort

HEADERS_MAX = 128
LINE_BYTES_MAX = 65_536
BODY_BYTES_MAX = 64 * 2**20


class HttpError(Exception):
    """What answers doesn't speak HTTP, or stopped in the middle of an answer."""


class HttpResponse:
    """An answer whose body is read piece by piece. Use it with `async with`."""

    def __init__(
        self, status: int, headers: Mapping[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.status = status
        self.headers = headers
        self._process = os.getpid()
        self._reader = reader
        self._writer = writer
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length", "")
        self._left = int(length) if length.isdigit() and not self._chunked else None
        self._ended = status in (204, 304)

    async def __aenter__(self) -> HttpResponse:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection at once."""
        abort(self._writer.transport, self._process)

    async def piece(self) -> bytes:
        """Return the next piece of the body, or nothing at its end. Raise `HttpError` if it breaks off."""
        if self._ended:
            return b""
        if self._chunked:
            return await self._chunk()
        data = await self._reader.read(LINE_BYTES_MAX if self._left is None else min(self._left, LINE_BYTES_MAX))
        if self._left is not None:
            self._left -= len(data)
            if not data and self._left:
                raise HttpError("The answer has stopped in the middle.")
        self._ended = not data or self._left == 0
        return data

    async def body(self) -> bytes:
        """Return the whole body. Raise `HttpError` if it breaks off or is too large."""
        pieces: list[bytes] = []
        size = 0
        while piece := await self.piece():
            pieces.append(piece)
            size += len(piece)
            if size > BODY_BYTES_MAX:
                raise HttpError("The answer is too large.")
        return b"".join(pieces)

    async def _chunk(self) -> bytes:
        try:
            size = int((await self._reader.readuntil(b"\n")).split(b";")[0], 16)
            data = await self._reader.readexactly(size)
            await self._reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            raise HttpError("The answer has stopped in the middle.") from error
        self._ended = size == 0
        return data


async def send(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None = None,
    ssl: ssl_module.SSLContext | None = None,
    timeout_s: float = 30.0,
) -> HttpResponse:
    """Send a request and return the answer as soon as its headers are there. It uses the proxy that the system names.

    Raises OSError, `TimeoutError` and `HttpError`.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    process = os.getpid()
    async with asyncio.timeout(timeout_s):
        reader, writer, is_proxied = await _connect(url, host, parts.port, parts.scheme == "https", ssl)
        try:
            lines = [f"{method} {url if is_proxied else target} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            if body is not None:
                lines.append(f"Content-Length: {len(body)}")
            writer.write("\r\n".join([*lines, "", ""]).encode() + (body or b""))
            with contextlib.suppress(ConnectionError):  # a server may answer before it has read all, and then close
                await writer.drain()
            status, received = await _head(reader)
        except BaseException:
            abort(writer.transport, process)
            raise
    return HttpResponse(status, received, reader, writer)


async def _connect(
    url: str, host: str, port: int | None, secure: bool, ssl: ssl_module.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bool]:
    """Return the streams, and whether the request has to be in the form for a proxy."""
    port = port or (443 if secure else 80)
    context = (ssl or _default_context()) if secure else None
    proxy = _proxy_for(url, host)
    if proxy is None:
        return *await asyncio.open_connection(host, port, ssl=context, limit=LINE_BYTES_MAX), False
    process = os.getpid()
    parts = urlsplit(proxy)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80, limit=LINE_BYTES_MAX)
    if context is None:
        return reader, writer, True
    try:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        sent = f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}\r\n" if login else ""
        writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{sent}\r\n".encode())
        status, _ = await _head(reader)
        if status != 200:
            raise ConnectFailed(
                f"The proxy {parts.hostname} refuses to connect to {host} (HTTP {status}). Correct it, or set NO_PROXY."
            )
        await writer.start_tls(context, server_hostname=host)
    except BaseException:
        abort(writer.transport, process)
        raise
    return reader, writer, False


@functools.cache
def _default_context() -> ssl_module.SSLContext:
    """Loading the system's authorities takes much longer than a request."""
    return ssl_module.create_default_context()


def _proxy_for(url: str, host: str) -> str | None:
    proxy = getproxies().get(urlsplit(url).scheme)
    return proxy if proxy and proxy.startswith("http://") and not proxy_bypass(host) else None


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of an answer, with names in lower case."""
    try:
        status_line = (await reader.readuntil(b"\n")).decode("latin-1")
        version, _, rest = status_line.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise HttpError("What answers doesn't speak HTTP.")
        headers: dict[str, str] = {}
        for _ in range(HEADERS_MAX):
            line = (await reader.readuntil(b"\n")).decode("latin-1").strip()
            if not line:
                return int(rest[:3]), headers
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise HttpError("What answers doesn't speak HTTP.") from error
    raise HttpError("The answer has too many headers.")
