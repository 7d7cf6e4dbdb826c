"""Paces in the embedded store: in memory, and nothing of whoever came long ago."""

from __future__ import annotations

import asyncio

from store.sqlite.rates import SqliteRates


async def test_who_came_long_ago_leaves_nothing_behind() -> None:
    """A million users who came once take no memory."""
    paces = SqliteRates()
    await paces.count_requests([(f"user{number}", 1, 0) for number in range(100)], 1)
    await asyncio.sleep(0.001)
    await paces.count_requests([("ann", 1, 0)], 1000)
    assert set(paces._due_us) == {"ann"}
