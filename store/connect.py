"""From a store's URL to the store."""

from __future__ import annotations

from store.base import Store, StoreError
from store.database import MEMORY
from store.embedded import EmbeddedStore

SQLITE_PREFIX = "sqlite:///"


def connect(url: str) -> Store:
    """The store that `url` names, not yet open. Raises `StoreError`.

    `sqlite:///turnwire.db` is a file beside the process, `sqlite:////var/lib/turnwire.db` an absolute one,
    `sqlite:///:memory:` ends with the process.
    """
    path = url.removeprefix(SQLITE_PREFIX)
    if path == url or not path:
        raise StoreError(f"Unknown store {url.split(':', 1)[0]!r}. Give --store sqlite:///FILE or sqlite:///{MEMORY}.")
    return EmbeddedStore(path)
