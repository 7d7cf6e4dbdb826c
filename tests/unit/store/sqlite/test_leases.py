"""Ownership in the SQLite store: the leases of an earlier process are invalid, and renewals write nothing to disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from store.records import Lease
from store.sqlite.leases import EXPIRED_MAX
from store.sqlite.store import SqliteStore
from tests.stored import NOW, run, stateless_turn

HOUR_MS = 3_600_000


async def open_store(path: Path | str) -> SqliteStore:
    store = SqliteStore(str(path))
    await store.open()
    return store


async def accept(store: SqliteStore, turn: str, **fields: Any) -> int:
    """Accept a stateless turn of owner `in_1`, and return its epoch."""
    new = stateless_turn(turn, owner="in_1", lease_ms=HOUR_MS, **fields)
    return (await store.accept(new)).turn.epoch


async def test_turns_of_an_earlier_process_can_be_claimed_at_once(tmp_path: Path) -> None:
    """Law 9: a process that can open the file knows that the earlier one has ended, so its leases are invalid."""
    store = await open_store(tmp_path / "turnwire.db")
    epoch = await accept(store, "t1", request=b"ask this")
    assert await store.expired_leases() == []
    assert await store.claim("ann", "t1", "in_2", NOW, HOUR_MS) is None
    await store.close()

    store = await open_store(tmp_path / "turnwire.db")
    assert await store.expired_leases() == [("ann", "t1")]
    claimed = await store.claim("ann", "t1", "in_2", NOW, HOUR_MS)
    assert claimed is not None
    assert (claimed.owner, claimed.request, claimed.epoch > epoch) == ("in_2", b"ask this", True)
    assert await store.expired_leases() == []
    assert await store.renew("in_1", [("ann", "t1", epoch)], HOUR_MS) == [Lease(held=False)]
    await store.close()


async def test_a_renewal_writes_nothing_to_the_file(tmp_path: Path) -> None:
    """Leases are kept in memory, so a renewal writes nothing to the file."""
    path = tmp_path / "turnwire.db"
    store = await open_store(path)
    turns = [("ann", f"t{n}", await accept(store, f"t{n}")) for n in range(20)]

    async def journal_bytes() -> int:
        return await store._db.run(lambda _: (path.parent / "turnwire.db-wal").stat().st_size)

    before = await journal_bytes()
    for _ in range(5):
        assert await store.renew("in_1", turns, HOUR_MS) == [Lease(held=True)] * 20
    assert await journal_bytes() == before
    await store.close()


async def test_a_cancel_request_survives_a_restart(tmp_path: Path) -> None:
    """Law 5: a claim after a restart returns the turn's cancel request."""
    store = await open_store(tmp_path / "turnwire.db")
    await accept(store, "t1")
    assert await store.request_cancel("ann", "t1", b"stop")
    await store.close()
    store = await open_store(tmp_path / "turnwire.db")
    claimed = await store.claim("ann", "t1", "in_2", NOW, HOUR_MS)
    assert claimed is not None
    assert claimed.cancel == b"stop"
    await store.close()


async def test_the_number_of_expired_leases_is_limited() -> None:
    """`expired_leases` returns a limited number of turns, the oldest first."""
    store = await open_store(":memory:")
    for n in range(EXPIRED_MAX + 5):
        await store.release("ann", f"t{n}", await accept(store, f"t{n}"))
    assert await store.expired_leases() == [("ann", f"t{n}") for n in range(EXPIRED_MAX)]
    await store.close()


async def test_an_ended_turn_has_no_lease() -> None:
    """The table of leases has no row for an ended turn."""
    store = await open_store(":memory:")
    await run(store, stateless_turn())
    await accept(store, "t2")
    assert await store._db.run(lambda db: db.execute("SELECT count(*) FROM leases").fetchone()[0]) == 1
    await store.close()
