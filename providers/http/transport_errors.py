"""The errors of a connection to a provider, as httpx2 has them: the SDKs understand no others."""

from __future__ import annotations

from typing import Final

import aiohttp
import httpx2

_ERROR_TYPES: Final[tuple[tuple[type[BaseException], type[httpx2.TransportError]], ...]] = (
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
ERROR_BODY_BYTES_MAX: Final = 64 * 1024
"""How much of the body of an error response is read."""


class Stalled(httpx2.ReadTimeout):
    """No progress for `waited_s`. `started` says whether there was progress before.

    `alive` says whether something that isn't progress, such as pings, kept the connection open.
    """

    def __init__(self, waited_s: float, *, started: bool, alive: bool = False) -> None:
        super().__init__(f"no progress for {waited_s:g} s" if alive else f"no data for {waited_s:g} s")
        self.started = started
        self.alive = alive


def map_error(error: BaseException) -> httpx2.TransportError:
    """Return the httpx2 transport error for an aiohttp error, because the SDKs understand only httpx2's."""
    kind = next((to for source, to in _ERROR_TYPES if isinstance(error, source)), httpx2.ReadError)
    # In these errors, aiohttp quotes bytes that it can't parse. They may be of the answer, so they must not be logged.
    text = "" if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientResponseError) else f": {error}"
    return kind(f"{type(error).__name__}{text}")
