"""From a store's URL to the store."""

from __future__ import annotations

import re

from store.api import Store
from store.records import StoreError
from store.sqlite.database import MEMORY
from store.sqlite.store import EmbeddedStore

SQLITE_PREFIX = "sqlite:///"
REDIS_PREFIXES = ("redis://", "rediss://", "unix://")


def connect(url: str, *, history_ttl_s: float, log_ttl_s: float, wait_replicas: int = 0, wait_ms: int = 500) -> Store:
    """The store that `url` names, not yet open. Raises `StoreError`, which never repeats a password.

    `sqlite:///turnwire.db` is a file beside the process, `sqlite:////var/lib/turnwire.db` an absolute one,
    `sqlite:///:memory:` ends with the process. `redis://`, `rediss://` and `unix://` are a Redis that many
    share. All but `log_ttl_s` is for Redis: in a file the history stays.
    """
    if url.startswith(REDIS_PREFIXES):
        # Only who uses Redis pays for its client.
        from store.redis.store import RedisStore

        return RedisStore(
            url, history_ttl_s=history_ttl_s, log_ttl_s=log_ttl_s, wait_replicas=wait_replicas, wait_ms=wait_ms
        )
    path = url.removeprefix(SQLITE_PREFIX)
    if path == url or not path:
        raise StoreError(
            f"Unknown store{_scheme(url)}. Give --store {SQLITE_PREFIX}FILE or {SQLITE_PREFIX}{MEMORY} for"
            " one process, or --store redis://HOST:PORT/DB for many."
        )
    return EmbeddedStore(path, log_ttl_s=log_ttl_s)


def has_password(url: str) -> bool:
    """Whether a store's URL holds a password; also one that isn't encoded as it should be."""
    return url.startswith(REDIS_PREFIXES) and re.search(r"//[^@]*:[^@]*@|[?&]password=", url) is not None


def _scheme(url: str) -> str:
    """What may be shown of a URL that isn't known: anything behind the scheme may be secret."""
    scheme, separator, _ = url.partition("://")
    return f" {scheme!r}" if separator else ""
