"""The sweep of the outboxes: through their index, it finds the changes that instances had not archived when they died."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog

from store.archive.api import Archive, ArchiveError
from store.archive.outboxes import Outboxes
from store.archive.state import DrainState
from store.errors import StoreError

log = structlog.stdlib.get_logger("turnwire.archive")

SWEEP_INTERVAL_S = 3.0
INDEX_AGE_MS = 5000
"""The age from which any instance may drain or remove an entry of the index: by then, the call that wrote the entry has
filled the outbox."""
SWEEPS_MAX = 100


class Sweep:
    """The sweep of one instance. `note` queues the outbox of a user; `wake` wakes the drain, which tries the archive again."""

    def __init__(
        self,
        outboxes: Outboxes,
        archive: Archive,
        state: DrainState,
        note: Callable[[str], None],
        wake: asyncio.Event,
    ) -> None:
        self._outboxes = outboxes
        self._archive = archive
        self._state = state
        self._note = note
        self._wake = wake

    async def run(self) -> None:
        """Sweep at intervals, until cancelled."""
        while True:
            await asyncio.sleep(random.uniform(0.7, 1.3) * SWEEP_INTERVAL_S)
            try:
                await self.sweep()
            except StoreError as error:
                log.warning("the index of outboxes can't be read, retrying", error=str(error))
            except Exception:
                log.exception("the sweep of the outboxes failed; trying again")

    async def sweep(self) -> None:
        """Drain the outboxes that were filled some time ago, and remove users whose outboxes are empty from the index."""
        pending, oldest_ms = 0, None
        for _ in range(SWEEPS_MAX):
            indexed = await self._outboxes.indexed_outboxes(INDEX_AGE_MS)
            if not indexed:
                break
            states = await self._outboxes.outbox_states([user for user, _ in indexed])
            empty = [entry for entry, state in zip(indexed, states, strict=True) if not state.entries]
            full = [(user, state) for (user, _), state in zip(indexed, states, strict=True) if state.entries]
            pending = sum(state.entries for _, state in full)
            oldest_ms = min((state.oldest_ms for _, state in full if state.oldest_ms is not None), default=None)
            for user, _ in full:
                self._note(user)
            await self._outboxes.unindex_outboxes(empty)
            if not empty:
                break
        self._state.pending, self._state.oldest_ms = pending, oldest_ms
        await self.check_archive()

    async def check_archive(self) -> None:
        """Check whether the archive can be reached, even if there is nothing to write."""
        if not self._state.is_degraded:
            try:
                await self._archive.ping()
            except ArchiveError as error:
                self._state.set_degraded(error)
        if self._state.is_degraded:
            self._wake.set()
