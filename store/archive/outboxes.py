"""The interface of the outboxes, as the archive's background tasks use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from store.archive.records import Applied, OutboxEntry
from store.redis.outbox import OutboxRead, OutboxState


class Outboxes(Protocol):
    """The methods of `RedisOutbox` that the drain and the sweep use."""

    async def read_outboxes(self, users: list[str]) -> list[OutboxRead]:
        """See `RedisOutbox`."""

    async def mark_earlier(self, users: Sequence[str]) -> list[str]:
        """See `RedisOutbox`."""

    async def acknowledge(self, results: list[Applied]) -> list[str]:
        """See `RedisOutbox`."""

    async def set_aside(self, user: str, entries: Sequence[tuple[OutboxEntry, str]]) -> None:
        """See `RedisOutbox`."""

    async def erased_ages_ms(self, users: Sequence[str]) -> list[int | None]:
        """See `RedisOutbox`."""

    async def renumber(self, user: str, stale_until: int) -> None:
        """See `RedisOutbox`."""

    async def outbox_states(self, users: list[str]) -> list[OutboxState]:
        """See `RedisOutbox`."""

    async def indexed_outboxes(self, age_ms: int) -> list[tuple[str, int]]:
        """See `RedisOutbox`."""

    async def unindex_outboxes(self, users: list[tuple[str, int]]) -> None:
        """See `RedisOutbox`."""
