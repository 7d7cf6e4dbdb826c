"""Limits in the SQLite store, in addition to the conformance tests."""

from __future__ import annotations

from pathlib import Path

from store.records import TurnLimits
from store.sqlite.store import SqliteStore
from tests.stored import conversation, new_turn, running, stateless_turn


async def test_idle_users_leave_no_row(tmp_path: Path) -> None:
    """The table of start times has only rows whose time is in the future."""
    store = SqliteStore(str(tmp_path / "turnwire.db"))
    await store.open()
    limits = TurnLimits(start_interval_us=1, start_burst=1)
    for number in range(10):
        await store.accept(stateless_turn("t", f"user{number}", limits=limits))
    assert await store._db.run(lambda db: db.execute("SELECT count(*) FROM starts").fetchone()[0]) == 1
    await store.close()


async def test_a_queue_survives_a_restart(tmp_path: Path) -> None:
    """The queue of a conversation is stored in the file."""
    path = str(tmp_path / "turnwire.db")
    store = SqliteStore(path)
    await store.open()
    await store.create_conversation(conversation())
    for name in ("a", "b"):
        await running(store, new_turn(name, on_busy="queue"))
    await running(store, new_turn("c"))
    await store.close()
    store = SqliteStore(path)
    await store.open()
    assert await store.running_groups("ann", "c", 1) == (("a", "b"),)
    await store.close()
