"""Places in the embedded store: in memory, and nothing of whoever has left."""

from __future__ import annotations

from store.sqlite.permits import SqlitePermits


async def test_who_has_left_leaves_nothing_behind() -> None:
    """A million addresses that came once take no memory."""
    places = SqlitePermits()
    for number in range(100):
        key, holder = f"address:{number}", f"h{number}"
        assert await places.acquire_permits(holder, [(key, 1)], 60_000) == [True]
        assert await places.acquire_permits("other", [(key, 1)], 60_000) == [False]
        await places.release_permits([(key, holder), (key, "other")])
    assert places._until == {}
