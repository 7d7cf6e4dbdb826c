"""Notes in the embedded store outlive the process, and what has expired leaves no row."""

from __future__ import annotations

import asyncio
from pathlib import Path

from store.sqlite.store import SqliteStore


async def opened(path: Path) -> SqliteStore:
    store = SqliteStore(str(path))
    await store.open()
    return store


async def test_notes_outlive_the_process(tmp_path: Path) -> None:
    """A revocation made before a restart still holds after it."""
    store = await opened(tmp_path / "turnwire.db")
    await store.put_ephemeral("revoked:1", b"x", 60_000)
    await store.close()
    store = await opened(tmp_path / "turnwire.db")
    assert await store.get_ephemeral(["revoked:1"]) == [b"x"]
    await store.close()


async def test_what_has_expired_leaves_no_row(tmp_path: Path) -> None:
    """The table doesn't grow with every ticket that was ever given."""
    store = await opened(tmp_path / "turnwire.db")
    for number in range(20):
        await store.put_ephemeral(f"n{number}", b"x", 1)
    await asyncio.sleep(0.01)
    await store.put_ephemeral("last", b"x", 60_000)
    assert await store._db.run(lambda db: db.execute("SELECT count(*) FROM notes").fetchone()[0]) == 1
    await store.close()
