"""The state of the archive as metrics and `/ready` show it."""

from __future__ import annotations

import time

from msgspec import Struct

from store.api import Store


class DrainState(Struct):
    """The state of an instance's drain. `pending` and `oldest_ms` are those of the last look at all outboxes.

    `is_unfit`: the database answers, but can't be used until an operator has changed something.
    `drained` and `set_aside` count entries of the outboxes since the start.
    """

    is_degraded: bool = False
    is_unfit: bool = False
    pending: int = 0
    oldest_ms: int | None = None
    drained: int = 0
    set_aside: int = 0

    def oldest_age_s(self) -> float:
        """Return the age in seconds of the oldest entry that waits; 0 if none waits."""
        return 0.0 if self.oldest_ms is None else max(0.0, time.time() - self.oldest_ms / 1000)


def archive_state(store: Store) -> DrainState | None:
    """Return the state of the store's archive, or None if it has none."""
    state: DrainState | None = getattr(store, "archive_state", None)
    return state
