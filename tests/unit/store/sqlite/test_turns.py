"""Rows of turns in the SQLite store: lookup, expiry, the end of the log, and lists of running turns."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator

import pytest

from store.errors import NotFound
from store.records import Append
from store.sqlite.history import get_key
from store.sqlite.store import SqliteStore
from store.sqlite.turns import (
    TURN_ID_TTL_MS,
    clock_ms,
    find_record,
    find_row,
    get_record,
    get_row,
    running_in_conversation,
    running_of_user,
)
from tests.stored import NOW, conversation, new_turn, run, stateless_turn


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    """A store in memory with a running and an ended turn."""
    made = SqliteStore(":memory:")
    await made.open()
    await made.create_conversation(conversation())
    await made.accept(new_turn("running"))
    await run(made, new_turn("ended"))
    yield made
    await made.close()


async def test_an_ended_turn_is_found_for_a_day(store: SqliteStore) -> None:
    """An ended turn is found for a day by the store's clock. A running turn is always found."""

    def found(db: sqlite3.Connection, age_ms: int) -> list[str]:
        db.execute("UPDATE turns SET stored_ms = ? WHERE turn = 'ended'", (clock_ms() - age_ms,))
        return [turn for turn in ("running", "ended", "unknown") if find_row(db, "ann", turn) is not None]

    assert await store._db.run(found, TURN_ID_TTL_MS - 60_000) == ["running", "ended"]
    assert await store._db.run(found, TURN_ID_TTL_MS) == ["running"]
    assert await store._db.run(lambda db: find_record(db, "ann", "ended")) is None
    for read in (get_row, get_record):
        with pytest.raises(NotFound):
            await store._db.run(read, "ann", "ended")


async def test_another_users_turn_is_not_found(store: SqliteStore) -> None:
    """Law 12: another user's turn isn't found."""
    assert await store._db.run(find_row, "bob", "running") is None
    assert await store._db.run(find_record, "bob", "running") is None


async def test_a_turns_seq_is_the_end_of_its_log(store: SqliteStore) -> None:
    """The seq is 0 before the first entry, and that of the last event afterwards, even if the log was deleted."""

    def end(db: sqlite3.Connection, turn: str) -> int:
        return int(get_row(db, "ann", turn)["seq"])

    assert await store._db.run(end, "running") == 0
    epoch = (await store.turn("ann", "running")).epoch
    await store.append([Append("ann", "running", epoch, 1, 3, b"x")])
    assert await store._db.run(end, "running") == 3
    before = await store._db.run(end, "ended")
    await store._db.run(lambda db: db.execute("DELETE FROM log"))
    assert await store._db.run(end, "ended") == before > 0


async def test_running_turns_of_a_conversation_are_listed(store: SqliteStore) -> None:
    """Rows are in order, with the answer's message id and whether it will be the head. A clear makes that false for all
    turns that run."""

    def listed(db: sqlite3.Connection) -> list[tuple[str, str, int]]:
        return [tuple(row) for row in running_in_conversation(db, "ann", get_key(db, "ann", "c1"))]

    await store.accept(new_turn("later"))
    assert await store._db.run(listed) == [("running", "running.answer", 1), ("later", "later.answer", 1)]
    await store.clear_conversation("ann", "c1", NOW)
    await store.accept(new_turn("last"))
    assert [one[2] for one in await store._db.run(listed)] == [0, 0, 1]


async def test_running_turns_of_a_user_are_listed(store: SqliteStore) -> None:
    """All of a user's turns are listed, with and without a conversation, and none of another user (law 12)."""
    await store.accept(stateless_turn("nowhere"))
    await store.accept(stateless_turn("theirs", "bob"))
    assert await store._db.run(running_of_user, "ann") == ["running", "nowhere"]
    assert await store.active("ann", None) == ["running", "nowhere"]
    assert await store.active("eve", None) == []
