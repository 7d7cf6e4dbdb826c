"""The rows of feedback in a SQLite file, which the conformance tests can't read, and the upgrade of a file of version 4."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from store.records import Change, FeedbackFilter
from store.sqlite.database import Database
from store.sqlite.store import SqliteStore
from tests.stored import NOW, body, conversation, new_turn, run

VERSION_4 = Path(__file__).with_name("version_4.sql")


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
    """The file's conversations keep their order by the clock. They are paged, continued, sorted and deleted as new ones
    are. Two users may now have conversations and messages with the same id. The file's feedback gets the model of the
    rated message, if that has one. Its messages are found by the search."""
    path = tmp_path / "turnwire.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(VERSION_4.read_text(encoding="utf-8"))
        for name, user, at in (("c1", "ann", 30), ("c2", "ann", 10), ("c3", "ann", 30), ("c4", "bob", 20)):
            db.execute(
                "INSERT INTO conversations (id, user, title, metadata, head, revision, created_ms, updated_ms, messages)"
                " VALUES (?, ?, 'Old', x'7b7d', ?, 2, ?, ?, 2)",
                (name, user, f"{name}.answer", at, NOW + at),
            )
            for role, parent in (("question", None), ("answer", f"{name}.question")):
                db.execute(
                    "INSERT INTO messages (id, user, conversation, parent, role, turn, created_ms, body)"
                    " VALUES (?, ?, ?, ?, 'user', ?, 1, x'00')",
                    (f"{name}.{role}", user, name, parent, f"{name}.turn"),
                )
            db.execute(
                "INSERT INTO turns (user, turn, conversation, epoch, owner, status, seq, message, model, revision,"
                " accepted_ms, ended_ms, stored_ms, input_tokens, digest, ending)"
                " VALUES (?, ?, ?, 7, 'one', 'completed', 9, ?, 'demo', 1, 1, 1, 9e15, 5, x'00', x'00')",
                (user, f"{name}.turn", name, f"{name}.answer"),
            )
            db.execute(
                "INSERT INTO feedback (message, user, rating, comment, at_ms) VALUES (?, ?, 'up', 'Good.', ?)",
                (f"{name}.answer", user, NOW + at),
            )
        for name, text in (("c2", b'{"parts":[],"model":"demo"}'), ("c4", b'{"parts":[]}')):
            db.execute("UPDATE messages SET body = ? WHERE id = ?", (text, f"{name}.answer"))
        db.execute("UPDATE messages SET body = ? WHERE id = 'c3.answer'", (body("an old needle"),))
    db.close()
    store = SqliteStore(str(path))
    await store.open()

    async def listed(before: str | None = None) -> list[str]:
        return [one.id for one in (await store.conversations("ann", 2, before))[0]]

    assert (await listed(), await listed("c1")) == (["c3", "c1"], ["c2"])
    assert [one.id for one in (await store.branch("ann", "c2", "c2.answer"))[0]] == ["c2.question", "c2.answer"]
    assert (await store.turn("ann", "c2.turn")).conversation == "c2"
    assert (await store.usage("ann", "c2", None)).input_tokens == 5
    found, _ = await store.list_feedback(FeedbackFilter(), 10, None)
    assert [(one.user, one.message, one.conversation, one.model) for one in found] == [
        ("ann", "c3.answer", "c3", None),
        ("ann", "c1.answer", "c1", None),
        ("bob", "c4.answer", "c4", None),
        ("ann", "c2.answer", "c2", "demo"),
    ]
    assert (await store.message("ann", "c2.answer")).rating == "up"
    await store.update_conversation("ann", "c2", Change(title="New"), NOW - 1000)
    await store.create_conversation(conversation("c4", at=NOW - 2000))
    await run(store, new_turn(conversation="c4"))
    assert (await listed(), await listed("c2")) == (["c4", "c2"], ["c3", "c1"])
    assert [one.id for one in (await store.messages("bob", "c4", 9, None))[0]] == ["c4.question", "c4.answer"]
    await run(store, new_turn(conversation="c4", turn="again", message="c4.answer"))
    await store.put_feedback("ann", "c4.answer", "down", None, NOW)
    assert (await store.message("bob", "c4.answer")).rating == "up"
    for _ in range(2):
        assert [hit.message for hit in (await store.search("ann", "needle", 9, None))[0]] == ["c3.answer"]
        await store.index_user("ann")
    await store.delete_conversation("ann", "c1")
    assert (await store.turn("ann", "c1.turn")).conversation is None
    await store.close()
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert db.execute("SELECT conversations, bytes FROM stored WHERE user = 'bob'").fetchone() == (1, 7)
    db.close()
