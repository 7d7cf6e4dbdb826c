"""The embedded store's logs: one transaction for a flush, published after it, and deleted in small pieces."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path

import pytest

from store.records import Append, Appended, LogEntry, StoreError
from store.sqlite.log import READ_BYTES_MAX, SWEEP_INTERVAL_S, SWEEP_ROWS_MAX
from store.sqlite.store import SqliteStore
from tests.store_conformance import run, stateless_turn

TTL_S = 600


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    """A store in memory."""
    made = SqliteStore(":memory:", log_ttl_s=TTL_S)
    await made.open()
    yield made
    await made.close()


async def accept(store: SqliteStore, turn: str) -> int:
    """Accept a turn that is in no history; its epoch."""
    return (await store.accept(stateless_turn(turn))).turn.epoch


async def end(store: SqliteStore, turn: str) -> None:
    """Accept and end a turn that is in no history."""
    await run(store, stateless_turn(turn))


async def age(store: SqliteStore, s: float) -> None:
    """All endings were stored so much earlier."""
    await store._db.run(lambda db: db.execute("UPDATE turns SET stored_ms = stored_ms - ?", (int(s * 1000),)))


async def rows(store: SqliteStore) -> int:
    """How many entries the table has."""
    return await store._db.run(lambda db: int(db.execute("SELECT count(*) FROM log").fetchone()[0]))


def a_minute_later(store: SqliteStore) -> None:
    """Let the time until the next sweep be over."""
    store._log._sweep_at_s -= SWEEP_INTERVAL_S


@asynccontextmanager
async def statements(store: SqliteStore) -> AsyncIterator[list[str]]:
    """What SQLite is asked within the block. It names a statement again for each time that this one sets off a trigger."""
    seen: list[str] = []
    await store._db.run(lambda db: db.set_trace_callback(seen.append))
    seen.clear()
    yield seen
    await store._db.run(lambda db: db.set_trace_callback(None))


async def test_one_flush_is_one_transaction(store: SqliteStore) -> None:
    """Law 4: the entries of all turns are written by one statement and one commit, however many turns there are."""
    epochs = {f"t{n}": await accept(store, f"t{n}") for n in range(50)}
    async with statements(store) as seen:
        written = await store.append([Append("ann", turn, epoch, 1, 2, b"x") for turn, epoch in epochs.items()])
        asked = [statement.split()[0] for statement, _ in groupby(seen)]
    assert [one.outcome for one in written] == ["stored"] * 50
    assert (asked.count("INSERT"), asked.count("COMMIT")) == (1, 1)
    assert await rows(store) == 50
    for turn, epoch in epochs.items():
        assert await store.log("ann", turn, 0) == [LogEntry(epoch, 1, 2, b"x")]
        assert (await store.append([Append("ann", turn, epoch, 4, 4, b"x")]))[0] == Appended("gap", 2)


async def test_a_flush_judges_each_append_alone(store: SqliteStore) -> None:
    """Law 4: what continues is written, whatever is wrong with its neighbours; payloads of any bytes stay apart."""
    epochs = {turn: await accept(store, turn) for turn in ("plain", "gap", "fenced", "wished", "twice", "empty")}
    await store.request_cancel("ann", "wished", b"stop")
    written = await store.append(
        [
            Append("ann", "gap", epochs["gap"], 2, 2, b"g"),
            Append("ann", "plain", epochs["plain"], 1, 3, b"\x00\xff"),
            Append("ann", "fenced", epochs["fenced"] - 1, 1, 1, b"f"),
            Append("ann", "nobody", 1, 1, 1, b"n"),
            Append("ann", "empty", epochs["empty"], 1, 1, b""),
            Append("ann", "wished", epochs["wished"], 1, 1, b"w"),
        ]
    )
    assert written == [
        Appended("gap", 0),
        Appended("stored", 3),
        Appended("fenced", 0),
        Appended("missing", 0),
        Appended("stored", 1),
        Appended("stored", 1, b"stop"),
    ]
    twice = [Append("ann", "twice", epochs["twice"], 1, 1, b"1"), Append("ann", "twice", epochs["twice"], 2, 2, b"2")]
    assert await store.append(twice) == [Appended("stored", 1), Appended("stored", 2)]
    logs = {turn: [entry.payload for entry in await store.log("ann", turn, 0)] for turn in epochs}
    assert logs == {
        "plain": [b"\x00\xff"],
        "gap": [],
        "fenced": [],
        "wished": [b"w"],
        "twice": [b"1", b"2"],
        "empty": [b""],
    }


async def test_a_failed_flush_publishes_and_stores_nothing(store: SqliteStore) -> None:
    """What is published is stored: a full disk is an error for the writer, and subscribers get nothing."""
    received: list[str] = []
    epochs = {turn: await accept(store, turn) for turn in ("t1", "t2")}
    for turn in epochs:
        await store.subscribe(f"turn:ann:{turn}")
    async with asyncio.TaskGroup() as tasks:
        listener = tasks.create_task(store.run_pubsub(lambda channel, _: received.append(channel), lambda: None))
        await store.ping()
        await store._db.run(lambda db: db.execute("PRAGMA max_page_count = 1").fetchone())
        large = [
            Append("ann", "t1", epochs["t1"], 1, 1, b"x"),
            Append("ann", "t2", epochs["t2"], 1, 1, bytes(9**7)),
        ]
        with pytest.raises(StoreError, match="disk is full"):
            await store.append(large)
        assert received == []
        await store._db.run(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())
        await store.append(large)
        assert received == ["turn:ann:t1", "turn:ann:t2"]
        listener.cancel()
    assert await rows(store) == 2


async def test_a_long_log_is_read_in_pieces(store: SqliteStore) -> None:
    """A reading stops at about 1 MiB, never before its first entry, and the next one goes on from there."""
    epoch = await accept(store, "t1")
    payloads = [bytes(READ_BYTES_MAX // 4)] * 9 + [bytes(2 * READ_BYTES_MAX), b"x"]
    for seq, payload in enumerate(payloads, 1):
        await store.append([Append("ann", "t1", epoch, seq, seq, payload)])
    pieces = []
    after = 0
    while piece := await store.log("ann", "t1", after):
        after = piece[-1].last
        pieces.append([entry.last for entry in piece])
    assert pieces == [[1, 2, 3, 4], [5, 6, 7, 8], [9], [10], [11]]


async def test_an_expired_log_is_empty_and_the_turn_stays(store: SqliteStore) -> None:
    """After its time the log answers nothing, whether it was swept or not; the turn knows where it ended."""
    await end(store, "t1")
    await age(store, TTL_S - 5)
    assert await store.log("ann", "t1", 0) != []
    await age(store, 5)
    seq = (await store.turn("ann", "t1")).seq
    assert await store.log("ann", "t1", 0) == []
    assert await rows(store) > 0
    a_minute_later(store)
    await store.append([])
    assert await rows(store) == 0
    assert (await store.turn("ann", "t1")).seq == seq > 0


async def test_running_turns_and_young_endings_are_not_swept(store: SqliteStore) -> None:
    """Only what ended long enough ago is forgotten."""
    await end(store, "old")
    await age(store, TTL_S + 1)
    await end(store, "young")
    epoch = await accept(store, "running")
    a_minute_later(store)
    await store.append([Append("ann", "running", epoch, 1, 1, b"x")])
    assert await store.log("ann", "old", 0) == []
    assert await store.log("ann", "young", 0) != []
    assert await store.log("ann", "running", 0) != []


async def test_the_sweep_is_rare(store: SqliteStore) -> None:
    """When there is nothing left to forget the next look is a minute later."""
    await store.append([])
    await end(store, "t1")
    await age(store, TTL_S + 1)
    await store.append([])
    assert await rows(store) > 0
    a_minute_later(store)
    await store.append([])
    assert await rows(store) == 0


async def test_a_sweep_is_bounded(store: SqliteStore) -> None:
    """However much has expired, a call deletes only so much, and the next one goes on at once."""
    epoch = await accept(store, "long")
    await store.append([Append("ann", "long", epoch, seq, seq, b"x") for seq in range(1, SWEEP_ROWS_MAX + 201)])
    await store._db.run(lambda db: db.execute("UPDATE turns SET stored_ms = 1, seq = 1200, ending = x'00'"))
    a_minute_later(store)
    await store.append([])
    assert await rows(store) == 200
    await store.append([])
    assert await rows(store) == 0


async def test_a_flush_changes_few_pages_however_many_turns_there_are(tmp_path: Path) -> None:
    """An index by turn would change a page of its own for each turn, and a commit writes whole pages."""
    path = tmp_path / "turnwire.db"
    store = SqliteStore(str(path), log_ttl_s=TTL_S)
    await store.open()
    turns, flushes = 100, 60
    epochs = {f"t{n}": await accept(store, f"t{n}") for n in range(turns)}
    for seq in range(1, flushes + 1):
        await store.append([Append("ann", turn, epoch, seq, seq, b"x" * 20) for turn, epoch in epochs.items()])
    pages_to_write(store)
    await store.append([Append("ann", turn, epoch, flushes + 1, flushes + 1, b"x") for turn, epoch in epochs.items()])
    assert 0 < pages_to_write(store) <= 10
    assert [entry.last for entry in await store.log("ann", "t7", flushes - 1)] == [flushes, flushes + 1]
    await store.close()


def pages_to_write(store: SqliteStore) -> int:
    """How many pages the write-ahead log has had since the last call; it is empty then."""
    connection, journal = store._db._connection, store._db._checkpointer
    assert connection is not None
    assert journal is not None
    journal._thread.submit(lambda: None).result()  # after what it does already
    pages = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()["log"]
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return int(pages)


async def test_a_file_of_version_2_is_taken_over(tmp_path: Path) -> None:
    """With its logs, which had an index by turn where there is a chain now; what goes on continues them."""
    path = tmp_path / "turnwire.db"
    store = SqliteStore(str(path), log_ttl_s=TTL_S)
    await store.open()
    epochs = {turn: await accept(store, turn) for turn in ("one", "two", "none")}
    for seq in range(1, 4):
        await store.append([Append("ann", turn, epochs[turn], seq, seq, turn.encode()) for turn in ("one", "two")])
    await store.close()
    with sqlite3.connect(path) as db:
        db.executescript(
            "DROP TRIGGER log_grows; DROP TABLE log_tails; ALTER TABLE log DROP COLUMN previous;"
            "CREATE UNIQUE INDEX log_by_turn ON log (turn, last); PRAGMA user_version = 2;"
        )
    db.close()
    store = SqliteStore(str(path), log_ttl_s=TTL_S)
    await store.open()
    for turn in ("one", "two"):
        await store.append([Append("ann", turn, epochs[turn], 4, 4, b"new")])
        entries = await store.log("ann", turn, 0)
        assert [(entry.last, entry.payload) for entry in entries] == [
            *((seq, turn.encode()) for seq in range(1, 4)),
            (4, b"new"),
        ]
    assert await store.log("ann", "none", 0) == []
    await store.close()
