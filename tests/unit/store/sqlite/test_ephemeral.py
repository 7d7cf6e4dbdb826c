"""Ephemeral values in the SQLite store survive a restart. What has expired or was released uses neither rows nor memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

from store.sqlite.store import SqliteStore


async def open_store(path: Path) -> SqliteStore:
    store = SqliteStore(str(path))
    await store.open()
    return store


async def test_values_survive_a_restart(tmp_path: Path) -> None:
    """A value that was stored before a restart, such as a revocation, is found after it."""
    store = await open_store(tmp_path / "turnwire.db")
    await store.put_ephemeral("revoked:1", b"x", 60_000)
    await store.close()
    store = await open_store(tmp_path / "turnwire.db")
    assert await store.get_ephemeral(["revoked:1"]) == [b"x"]
    await store.close()


async def test_expired_values_are_deleted(tmp_path: Path) -> None:
    """Expired values are deleted, so the table doesn't grow with each ticket that was ever issued."""
    store = await open_store(tmp_path / "turnwire.db")
    for number in range(20):
        await store.put_ephemeral(f"n{number}", b"x", 1)
    await asyncio.sleep(0.01)
    await store.put_ephemeral("last", b"x", 60_000)
    assert await store._db.run(lambda db: db.execute("SELECT count(*) FROM notes").fetchone()[0]) == 1
    await store.close()


async def test_rate_limits_of_idle_users_use_no_memory() -> None:
    """The rate limits of users without recent requests use no memory."""
    store = SqliteStore(":memory:")
    await store.count_requests([(f"user{number}", 1, 0) for number in range(100)], 1)
    await asyncio.sleep(0.001)
    await store.count_requests([("ann", 1, 0)], 1000)
    assert set(store._due_us) == {"ann"}


async def test_released_permits_use_no_memory() -> None:
    """Released permits use no memory."""
    store = SqliteStore(":memory:")
    for number in range(100):
        key, holder = f"address:{number}", f"h{number}"
        assert await store.acquire_permits(holder, [(key, 1)], 60_000) == [True]
        assert await store.acquire_permits("other", [(key, 1)], 60_000) == [False]
        await store.release_permits([(key, holder), (key, "other")])
    assert store._permits == {}
