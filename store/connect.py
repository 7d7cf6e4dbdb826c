"""Create the store that a URL names."""

from __future__ import annotations

import re

from store.api import Store
from store.archive.api import Archive
from store.errors import StoreError
from store.sqlite.database import MEMORY
from store.sqlite.store import SqliteStore

SQLITE_PREFIX = "sqlite:///"
REDIS_PREFIXES = (
    *("redis://", "rediss://", "unix://"),
    *("redis+cluster://", "rediss+cluster://", "redis+sentinel://", "rediss+sentinel://"),
)
NOT_SHARED = (
    "An archive is for a store that many processes share; SQLite keeps its history already. Unset TURNWIRE_ARCHIVE, or set"
    " TURNWIRE_STORE=redis://HOST:PORT/DB."
)


def connect(
    url: str,
    *,
    history_ttl_s: float,
    log_ttl_s: float,
    retention_days: int = 0,
    wait_replicas: int = 0,
    wait_ms: int = 500,
    archived: bool = False,
) -> Store:
    """Return the store that `url` names, not yet open. Raises `StoreError`, which never repeats a password.

    `sqlite:///turnwire.db` is a file in the working directory, `sqlite:////var/lib/turnwire.db` an absolute path, and
    `sqlite:///:memory:` ends with the process. `redis://`, `rediss://` and `unix://` are a Redis that many processes
    share; `redis+cluster://HOST:PORT,HOST:PORT` and `redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB` (`rediss+…` with
    TLS) are a cluster and the master that Sentinels name. SQLite uses only `log_ttl_s` of the other parameters: its
    history doesn't expire by itself. `retention_days` and `wait_replicas`: see
    `RedisStore`. `archived`: the store gets an archive.
    """
    if url.startswith(REDIS_PREFIXES):
        # Imported here so that only a gateway with Redis loads its client.
        from store.redis.store import RedisStore

        return RedisStore(
            url,
            history_ttl_s=history_ttl_s,
            log_ttl_s=log_ttl_s,
            retention_days=retention_days,
            wait_replicas=wait_replicas,
            wait_ms=wait_ms,
            archived=archived,
        )
    if archived:
        raise StoreError(NOT_SHARED)
    path = url.removeprefix(SQLITE_PREFIX)
    if path == url or not path:
        raise StoreError(
            f"Unknown store{_scheme(url)}. Use --store {SQLITE_PREFIX}FILE or {SQLITE_PREFIX}{MEMORY} for"
            " one process, or --store redis://HOST:PORT/DB for several."
        )
    return SqliteStore(path, log_ttl_s=log_ttl_s)


def connect_archive(url: str, *, migrate: bool) -> Archive:
    """Return the archive that `url` names, not yet open. Raises `StoreError`, which never repeats a password.

    `migrate`: opening it creates or upgrades its schema.
    """
    # Imported here so that only a gateway with an archive loads the packages for SQL.
    from store.archive.sql_archive import SqlArchive

    return SqlArchive(url, migrate=migrate)


def add_archive(store: Store, archive: Archive, *, sync: bool) -> Store:
    """Return `store` with its archive. `sync`: see `ArchivedStore`.

    `store` comes from a call of `connect` with `archived`, or wraps such a store.
    """
    from store.archive.archived_store import archived

    return archived(store, archive, sync=sync)


def is_shared(url: str) -> bool:
    """Return whether the URL names a store that many processes share."""
    return url.startswith(REDIS_PREFIXES)


def has_password(url: str) -> bool:
    """Return whether the URL of a store or an archive holds a password, even one that isn't percent-encoded as it should be."""
    secret = r"//[^@]*:[^@]*@|[?&](?:sentinel_|ssl_)?password="
    return url.startswith((*REDIS_PREFIXES, "postgres")) and re.search(secret, url) is not None


def _scheme(url: str) -> str:
    """Return the part of an unknown URL that may be shown: anything after the scheme may be secret."""
    scheme, separator, _ = url.partition("://")
    return f" {scheme!r}" if separator else ""
