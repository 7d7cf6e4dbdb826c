"""The SQLite store's logs: a flush is one transaction, is published after it, and expired entries are swept."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from itertools import groupby
from pathlib import Path

import pytest

from store.errors import StoreError
from store.records import Append, Appended, LogEntry
from store.sqlite.log import READ_BYTES_MAX, SWEEP_INTERVAL_S, SWEEP_ROWS_MAX
from store.sqlite.store import SqliteStore
from tests.stored import run, stateless_turn

TTL_S = 600
VERSION_4 = Path(__file__).with_name("version_4.sql")


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    """A store in memory."""
    made = SqliteStore(":memory:", log_ttl_s=TTL_S)
    await made.open()
    yield made
    await made.close()


async def accept(store: SqliteStore, turn: str) -> int:
    """Accept a stateless turn, and return its epoch."""
    return (await store.accept(stateless_turn(turn))).turn.epoch


async def end(store: SqliteStore, turn: str) -> None:
    """Accept and end a stateless turn."""
    await run(store, stateless_turn(turn))


async def age(store: SqliteStore, s: float) -> None:
    """Move the time of all endings into the past, by this many seconds."""
    await store._db.run(lambda db: db.execute("UPDATE turns SET stored_ms = stored_ms - ?", (int(s * 1000),)))


async def rows(store: SqliteStore) -> int:
    """Return the number of entries in the table."""
    return await store._db.run(lambda db: int(db.execute("SELECT count(*) FROM log").fetchone()[0]))


def make_sweep_due(store: SqliteStore) -> None:
    """Make the next sweep due."""
    store._log._sweep_at_s -= SWEEP_INTERVAL_S


@asynccontextmanager
async def statements(store: SqliteStore) -> AsyncIterator[list[str]]:
    """Record the SQL statements of the block. SQLite reports a statement again for each trigger that it fires."""
    seen: list[str] = []
    await store._db.run(lambda db: db.set_trace_callback(seen.append))
    seen.clear()
    yield seen
    await store._db.run(lambda db: db.set_trace_callback(None))


async def test_one_flush_is_one_transaction(store: SqliteStore) -> None:
    """Law 4: the entries of any number of turns are written by one statement and one commit."""
    epochs = {f"t{n}": await accept(store, f"t{n}") for n in range(50)}
    async with statements(store) as seen:
        written = await store.append([Append("ann", turn, epoch, 1, 2, b"x") for turn, epoch in epochs.items()])
        verbs = [statement.split()[0] for statement, _ in groupby(seen)]
    assert [one.outcome for one in written] == ["stored"] * 50
    assert (verbs.count("INSERT"), verbs.count("COMMIT")) == (1, 1)
    assert await rows(store) == 50
    for turn, epoch in epochs.items():
        assert await store.log("ann", turn, 0) == [LogEntry(epoch, 1, 2, b"x")]
        assert (await store.append([Append("ann", turn, epoch, 4, 4, b"x")]))[0] == Appended("gap", 2)


async def test_the_appends_of_a_flush_are_independent(store: SqliteStore) -> None:
    """Law 4: each append is stored or refused independently of the others; payloads can be any bytes."""
    epochs = {turn: await accept(store, turn) for turn in ("plain", "gap", "fenced", "cancelled", "twice", "empty")}
    await store.request_cancel("ann", "cancelled", b"stop")
    written = await store.append(
        [
            Append("ann", "gap", epochs["gap"], 2, 2, b"g"),
            Append("ann", "plain", epochs["plain"], 1, 3, b"\x00\xff"),
            Append("ann", "fenced", epochs["fenced"] - 1, 1, 1, b"f"),
            Append("ann", "unknown", 1, 1, 1, b"u"),
            Append("ann", "empty", epochs["empty"], 1, 1, b""),
            Append("ann", "cancelled", epochs["cancelled"], 1, 1, b"c"),
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
        "cancelled": [b"c"],
        "twice": [b"1", b"2"],
        "empty": [b""],
    }


async def test_a_failed_flush_publishes_and_stores_nothing(store: SqliteStore) -> None:
    """If the disk is full, the writer gets an error, and subscribers receive nothing."""
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
    """A read returns at most about 1 MiB, but at least one entry; the next read continues after it."""
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


async def test_an_expired_log_is_empty(store: SqliteStore) -> None:
    """An expired log returns no entries, swept or not; the turn's last seq is unchanged."""
    await end(store, "t1")
    await age(store, TTL_S - 5)
    assert await store.log("ann", "t1", 0) != []
    await age(store, 5)
    seq = (await store.turn("ann", "t1")).seq
    assert await store.log("ann", "t1", 0) == []
    assert await rows(store) > 0
    make_sweep_due(store)
    await store.append([])
    assert await rows(store) == 0
    assert (await store.turn("ann", "t1")).seq == seq > 0


async def test_running_and_recently_ended_turns_are_not_swept(store: SqliteStore) -> None:
    """Only the logs of turns that ended long enough ago are deleted."""
    await end(store, "old")
    await age(store, TTL_S + 1)
    await end(store, "young")
    epoch = await accept(store, "running")
    make_sweep_due(store)
    await store.append([Append("ann", "running", epoch, 1, 1, b"x")])
    assert await store.log("ann", "old", 0) == []
    assert await store.log("ann", "young", 0) != []
    assert await store.log("ann", "running", 0) != []


async def test_the_sweep_is_rare(store: SqliteStore) -> None:
    """After a sweep that finds nothing, the next sweep is a minute later."""
    await store.append([])
    await end(store, "t1")
    await age(store, TTL_S + 1)
    await store.append([])
    assert await rows(store) > 0
    make_sweep_due(store)
    await store.append([])
    assert await rows(store) == 0


async def test_a_sweep_deletes_a_limited_number_of_rows(store: SqliteStore) -> None:
    """A call deletes a limited number of rows, and the next call continues."""
    epoch = await accept(store, "long")
    await store.append([Append("ann", "long", epoch, seq, seq, b"x") for seq in range(1, SWEEP_ROWS_MAX + 201)])
    await store._db.run(lambda db: db.execute("UPDATE turns SET stored_ms = 1, seq = 1200, ending = x'00'"))
    make_sweep_due(store)
    await store.append([])
    assert await rows(store) == 200
    await store.append([])
    assert await rows(store) == 0


async def test_a_flush_of_many_turns_changes_few_pages(tmp_path: Path) -> None:
    """A flush of many turns changes few pages: with an index by turn it would change one page for each turn."""
    path = tmp_path / "turnwire.db"
    store = SqliteStore(str(path), log_ttl_s=TTL_S)
    await store.open()
    turns, flushes = 100, 60
    epochs = {f"t{n}": await accept(store, f"t{n}") for n in range(turns)}
    for seq in range(1, flushes + 1):
        await store.append([Append("ann", turn, epoch, seq, seq, b"x" * 20) for turn, epoch in epochs.items()])
    pop_journal_pages(store)
    await store.append([Append("ann", turn, epoch, flushes + 1, flushes + 1, b"x") for turn, epoch in epochs.items()])
    assert 0 < pop_journal_pages(store) <= 10
    assert [entry.last for entry in await store.log("ann", "t7", flushes - 1)] == [flushes, flushes + 1]
    await store.close()


def pop_journal_pages(store: SqliteStore) -> int:
    """Return the number of pages in the write-ahead log, and empty it."""
    connection, journal = store._db._connection, store._db._checkpointer
    assert connection is not None
    assert journal is not None
    journal._thread.submit(lambda: None).result()  # wait for a running checkpoint
    pages = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()["log"]
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return int(pages)


async def test_a_file_of_version_2_is_upgraded(tmp_path: Path) -> None:
    """A file of version 2, whose logs have an index by turn and no chain, is upgraded; its logs can be continued."""
    path = tmp_path / "turnwire.db"
    epochs = dict.fromkeys(("one", "two", "none"), 7)
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(VERSION_4.read_text(encoding="utf-8"))
        db.executescript(
            "DROP TRIGGER log_grows; DROP TABLE log_tails; ALTER TABLE log DROP COLUMN previous;"
            "CREATE UNIQUE INDEX log_by_turn ON log (turn, last); PRAGMA user_version = 2;"
        )
        db.executemany(
            "INSERT INTO turns (n, user, turn, epoch, owner, status, message, model, accepted_ms, digest)"
            " VALUES (?, 'ann', ?, 7, 'one', 'running', ?, 'demo', 1, x'00')",
            [(n, turn, f"{turn}.answer") for n, turn in enumerate(epochs)],
        )
        db.executemany(
            "INSERT INTO log (turn, epoch, first, last, payload) VALUES (?, 7, ?, ?, ?)",
            [(n, seq, seq, turn) for seq in range(1, 4) for n, turn in enumerate((b"one", b"two"))],
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
