"""The state of the archive as metrics, `/ready` and the log show it."""

from __future__ import annotations

import time

import structlog
from msgspec import Struct

from store.api import Store
from store.archive.api import ArchiveUnfit
from store.archive.records import Applied

NAME_BYTES_MAX = 500

log = structlog.stdlib.get_logger("turnwire.archive")


class DrainState(Struct):
    """The state of an instance's drain. `pending` and `oldest_ms` are those of the last look at all outboxes.

    `is_unfit`: the database answers, but can't be used until an operator has changed something.
    `unfit_because` says what. `drained` and `set_aside` count entries of the outboxes since the start.
    """

    is_degraded: bool = False
    is_unfit: bool = False
    unfit_because: str = ""
    pending: int = 0
    oldest_ms: int | None = None
    drained: int = 0
    set_aside: int = 0

    def oldest_age_s(self) -> float:
        """Return the age in seconds of the oldest entry that waits; 0 if none waits."""
        return 0.0 if self.oldest_ms is None else max(0.0, time.time() - self.oldest_ms / 1000)

    def set_writable(self) -> None:
        """Record that the archive can be written, and log it if it couldn't be before."""
        if self.is_degraded:
            log.info("the archive can be written again")
        self.is_degraded = self.is_unfit = False
        self.unfit_because = ""

    def set_degraded(self, error: Exception) -> None:
        """Record that `error` prevents writing. Log it once per outage, and for each error that an operator has to correct."""
        was_degraded, unfit_before = self.is_degraded, self.unfit_because
        self.is_degraded, self.is_unfit = True, isinstance(error, ArchiveUnfit)
        self.unfit_because = str(error) if self.is_unfit else ""
        if self.is_unfit and self.unfit_because != unfit_before:
            log.error(
                "the archive can't be used until its error is corrected; outboxes keep the changes", error=str(error)
            )
        elif not self.is_unfit and not was_degraded:
            log.warning("the archive can't be written; outboxes in the store keep the changes", error=str(error))

    def count(self, applied: Applied) -> None:
        """Count what was archived, and log which entries were set aside."""
        self.drained += len(applied.done)
        self.set_aside += len(applied.poisoned)
        for entry, reason in applied.poisoned:
            log.error(
                "an entry can't be archived; it was set aside",
                user=applied.user,
                entry=_name(entry.member),
                reason=reason,
            )


def _name(member: bytes) -> str:
    """Return an entry's kind and id for the log. Of a turn's entry, return only the kind: it has more than an id."""
    return "t" if member.startswith(b"t:") else member[:NAME_BYTES_MAX].decode("utf-8", "replace")


def archive_state(store: Store) -> DrainState | None:
    """Return the state of the store's archive, or None if it has none."""
    state: DrainState | None = getattr(store, "archive_state", None)
    return state
