"""The table of feedback in the SQLite store, which the conformance tests can't read."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from store.records import FeedbackFilter
from store.sqlite.database import Database
from store.sqlite.store import SqliteStore
from tests.store_conformance import NOW, conversation, message, new_turn, run


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
    assert rows == [("t1.answer", "ann", "2", None, NOW + 1, None)]
    await database.close()


async def test_a_file_of_version_4_is_upgraded(tmp_path: Path) -> None:
    """Its feedback had no model. It gets that of the rated message, or none if the message has none."""
    path = tmp_path / "turnwire.db"
    store = SqliteStore(str(path))
    await store.open()
    await store.create_conversation(conversation())
    bodies = {"a": b'{"parts":[],"model":"demo"}', "b": b'{"parts":[]}', "c": b"\xff"}
    for turn, body in bodies.items():
        answer = message(f"{turn}.answer", role="assistant", turn=turn, body=body)
        await run(store, new_turn(turn), answer=answer)
        await store.put_feedback("ann", f"{turn}.answer", "up", "Good.", NOW)
    await store.close()
    with sqlite3.connect(path) as db:
        db.executescript(
            "DROP INDEX feedback_by_time; ALTER TABLE feedback DROP COLUMN model; PRAGMA user_version = 4;"
        )
    db.close()
    store = SqliteStore(str(path))
    await store.open()
    found, _ = await store.list_feedback(FeedbackFilter(), 10, None)
    assert [(one.message, one.model, one.rating, one.comment) for one in found] == [
        ("c.answer", None, "up", "Good."),
        ("b.answer", None, "up", "Good."),
        ("a.answer", "demo", "up", "Good."),
    ]
    assert (await store.message("ann", "a.answer")).rating == "up"
    await store.close()
