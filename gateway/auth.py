"""Who may open a connection: the rules for `Host` and `Origin`, and the principal of a connection."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from gateway.access import Access
from gateway.errors import ApiError
from gateway.principal import DEFAULT_SCOPES, Principal
from gateway.settings import LOOPBACK_NAMES, Settings
from store.interface import Store

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d{1,5})?", re.ASCII)

Headers = Iterable[tuple[bytes, bytes]]


LOCAL_USER = "local"
"""Everyone, where auth is off."""


class Authenticator:
    """Who may come in, by the modes of `TURNWIRE_AUTH`; one for each process."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._present: set[Access] = set()
        # Whoever reaches a loopback port is the operator; whoever reaches an open one is anybody.
        self._local = Principal(
            user=LOCAL_USER, scopes=DEFAULT_SCOPES | {"admin"} if settings.loopback_only else DEFAULT_SCOPES
        )

    async def of(self, headers: Headers, query: bytes = b"") -> Principal:
        """Whom the credential of a request names. `query` is the URL's, as it came.

        Raises `ApiError`: "unauthenticated" without one that counts, "forbidden", "store_unavailable".
        """
        return self._local

    def admit(
        self,
        principal: Principal,
        on_expiring: Callable[[int], None] = lambda _: None,
        on_ended: Callable[[str], None] = lambda _: None,
    ) -> Access:
        """Somebody comes in, for one request or for long; `leave` the answer when it is over. See `Access`."""
        access = Access(
            principal,
            self._renew,
            warning_s=60,
            grace_s=25,
            on_expiring=on_expiring,
            on_ended=on_ended,
            on_left=self._present.discard,
        )
        self._present.add(access)
        return access

    async def _renew(self, principal: Principal, token: str) -> Principal:
        return principal


def header(headers: Headers, name: bytes) -> str | None:
    """The first header of that (lower-case) name."""
    return next((value.decode("latin-1") for key, value in headers if key == name), None)


def is_loopback(host: str) -> bool:
    """Whether a `Host` value, with or without a port, names this machine's loopback."""
    found = _HOST.fullmatch(host)
    if found is None:
        return host in LOOPBACK_NAMES
    name = found.group(1).lower()
    return name in LOOPBACK_NAMES or name.endswith(".localhost")


def check_host(headers: Headers, settings: Settings) -> None:
    """With auth off, a page of another site must not reach us by a name that it made point here (DNS rebinding)."""
    hosts = [value.decode("latin-1") for key, value in headers if key == b"host"]
    if settings.loopback_only and (len(hosts) != 1 or not is_loopback(hosts[0])):
        raise ApiError("forbidden", "Auth is off, so only loopback names are served. Open the page as 127.0.0.1.")


def check_origin(headers: Headers, settings: Settings) -> None:
    """Browsers may connect from the page's own origin and from those that the operator listed."""
    origin = header(headers, b"origin")
    if origin is None or origin in settings.allowed_origins:
        return
    scheme, _, authority = origin.partition("://")
    if scheme in {"http", "https"} and authority.lower() == (header(headers, b"host") or "").lower():
        return
    raise ApiError("forbidden", "This origin may not connect. The operator can list it in TURNWIRE_ALLOWED_ORIGINS.")
