"""The keys from a JWKS URL, fetched with a time limit and kept while the URL can't be reached.

An unknown key id causes another fetch. A client can put any key id in a token, so such fetches are rate limited.
"""

from __future__ import annotations

import asyncio
import json

import structlog
from jwt import PyJWK, PyJWKSet
from jwt.exceptions import PyJWTError

from gateway.protocol.errors import ApiError

log = structlog.stdlib.get_logger("turnwire.auth")

REFRESH_S = 300.0
COOLDOWN_S = 10.0
FAILED_COOLDOWN_S = 1.0
FETCH_TIMEOUT_S = 5.0
"""The time limit for one fetch, including the whole response body."""
BYTES_MAX = 2**20


class Jwks:
    """The signing keys at `url`, by their `kid`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str, PyJWK] = {}
        self._fetch_lock = asyncio.Lock()
        self._next_fetch_at = 0.0

    async def key(self, kid: str | None) -> PyJWK | None:
        """Return the key with this `kid`, or None.

        Raise `ApiError` "internal" if there are no keys at all, because none could be fetched.
        """
        if kid is None:
            return None
        if kid not in self._keys:
            async with self._fetch_lock:
                time = asyncio.get_running_loop().time
                if kid not in self._keys and time() >= self._next_fetch_at:
                    await self._fetch()
                    self._next_fetch_at = time() + (COOLDOWN_S if self._keys else FAILED_COOLDOWN_S)
        if not self._keys:
            raise ApiError("internal", "The keys for checking tokens can't be fetched. Try again in a moment.")
        return self._keys.get(kid)

    async def run(self) -> None:
        """Fetch the keys periodically until cancelled, so that withdrawn keys are dropped."""
        while True:
            async with self._fetch_lock:
                await self._fetch()
            await asyncio.sleep(REFRESH_S)

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                found = await asyncio.to_thread(_signing_keys, await self._read())
        except (PyJWTError, OSError, ValueError) as error:
            log.warning("JWKS can't be fetched, keeping the known keys", error=type(error).__name__)
        else:
            self._keys = found

    async def _read(self) -> bytes:
        """Return the first `BYTES_MAX` bytes of the response body. Raise `OSError` if it can't be fetched."""
        # Imported here because only deployments that use a JWKS URL need the client.
        import aiohttp

        try:
            async with (
                aiohttp.ClientSession(trust_env=True, raise_for_status=True) as session,
                session.get(self._url, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    raise OSError(f"status {response.status}")
                return await response.content.readexactly(BYTES_MAX)
        except asyncio.IncompleteReadError as error:
            return error.partial  # the body is smaller than the limit, so this is all of it
        except aiohttp.ClientError as error:
            raise OSError("request failed") from error


def _signing_keys(body: bytes) -> dict[str, PyJWK]:
    """Return the signing keys in a JWKS by their `kid`, without those that have none.

    Raise `PyJWTError` or `ValueError` if `body` isn't a valid JWKS.
    """
    decoded = json.loads(body)
    if not isinstance(decoded, dict):
        raise ValueError("not a JSON object")
    keys = PyJWKSet.from_dict(decoded).keys
    return {key.key_id: key for key in keys if key.key_id is not None and key.public_key_use in {"sig", None}}
