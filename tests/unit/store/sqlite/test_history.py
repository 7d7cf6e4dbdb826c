"""Feedback in the SQLite store, which the conformance tests can't read."""

from __future__ import annotations

from pathlib import Path

from store.sqlite.database import Database
from store.sqlite.store import SqliteStore
from tests.store_conformance import NOW, conversation, new_turn, run


async def test_feedback_is_one_row_per_message(tmp_path: Path) -> None:
    """A second rating replaces the first, and deleting a conversation deletes its ratings."""
    path = str(tmp_path / "turnwire.db")
    store = SqliteStore(path)
    await store.open()
    await store.create_conversation(conversation())
    await store.create_conversation(conversation("c2"))
    await run(store, new_turn())
    await run(store, new_turn("gone", conversation="c2"))
    await store.put_feedback("ann", "t1.answer", "up", "Good.", NOW)
    await store.put_feedback("ann", "t1.answer", "2", None, NOW + 1)
    await store.put_feedback("ann", "gone.answer", "down", None, NOW)
    await store.delete_conversation("ann", "c2")
    await store.close()

    database = Database(path)
    await database.open()
    rows = await database.run(lambda db: [tuple(row) for row in db.execute("SELECT * FROM feedback").fetchall()])
    assert rows == [("t1.answer", "ann", "2", None, NOW + 1)]
    await database.close()
