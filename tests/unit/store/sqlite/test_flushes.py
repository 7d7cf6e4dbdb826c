"""The entries of running turns are in few rows for each flush. Nothing outside of the store can tell where they are."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from store.errors import NotFound, StoreError
from store.records import Append, Appended, EndedTurn, LogEntry
from store.sqlite.flushes import CLEAN_AFTER_MS, FLUSHES_MAX, PAYLOAD_BYTES_MAX
from store.sqlite.log import SWEEP_INTERVAL_S
from store.sqlite.store import SqliteStore
from tests.stored import conversation, ending, new_turn, piece, stateless_turn

TTL_S = 600
NEW_TABLES = "DROP TABLE flushes; ALTER TABLE log DROP COLUMN flushes; PRAGMA user_version = 8;"
"""Makes a file of version 8 out of one of version 9 whose log has one entry in each row."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A store in a file."""
    made = await opened(tmp_path / "turnwire.db")
    yield made
    await made.close()


async def opened(path: Path) -> SqliteStore:
    store = SqliteStore(str(path), log_ttl_s=TTL_S)
    await store.open()
    return store


async def count(store: SqliteStore, table: str) -> int:
    """Return the number of rows in a table."""
    return await store._db.run(lambda db: int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]))


class Running:
    """Some turns, and the appends that the store has accepted for each. An append has one or two events."""

    def __init__(self, store: SqliteStore, *turns: str, user: str = "ann") -> None:
        self.store = store
        self.user = user
        self.logs: dict[str, list[LogEntry]] = {turn: [] for turn in turns}
        self.epochs: dict[str, int] = {}

    async def accept(self) -> None:
        for turn in self.logs:
            await self.accept_one(turn)

    async def accept_one(self, turn: str) -> None:
        self.epochs[turn] = (await self.store.accept(stateless_turn(turn, self.user))).turn.epoch

    def next(self, turn: str, payload: bytes | None = None) -> Append:
        log = self.logs[turn]
        first = log[-1].last + 1 if log else 1
        last = first + random.randint(0, 1)
        return Append(
            self.user, turn, self.epochs[turn], first, last, random.randbytes(9) if payload is None else payload
        )

    async def flush(self, *turns: str, payload: bytes | None = None) -> None:
        """Write one append for each of the turns, or for all."""
        appends = [self.next(turn, payload) for turn in turns or self.logs]
        assert await self.store.append(appends) == [Appended("stored", new.last) for new in appends]
        self.record(*appends)

    def record(self, *appends: Append) -> None:
        """Record appends that the store has accepted."""
        for new in appends:
            self.logs[new.turn].append(LogEntry(new.epoch, new.first, new.last, new.payload))

    async def check(self, store: SqliteStore | None = None) -> None:
        """Check that the store has exactly the entries that were accepted."""
        store = store or self.store
        for turn, log in self.logs.items():
            seq = log[-1].last if log else 0
            assert (await store.turn(self.user, turn)).seq == seq
            assert await store.log(self.user, turn, 0) == log
            for after in range(seq):
                assert await store.log(self.user, turn, after) == [entry for entry in log if entry.last > after]


@pytest.fixture
async def turns(store: SqliteStore) -> Running:
    """Three turns that run, each with two entries, the second of which is in the flushes."""
    running = Running(store, "t1", "t2", "t3")
    await running.accept()
    await running.flush()
    await running.flush()
    assert (await count(store, "log"), await count(store, "flushes")) == (3, 1)
    return running


async def test_a_short_flush_is_one_row_which_the_log_names_later(store: SqliteStore, turns: Running) -> None:
    """A flush is a row, or several if it is long. After many, the log gets one row for each turn, which names them all."""
    for n in range(2, FLUSHES_MAX):
        await turns.flush()
        assert (await count(store, "log"), await count(store, "flushes")) == (3, n)
    await turns.flush()
    assert (await count(store, "log"), await count(store, "flushes")) == (6, FLUSHES_MAX)
    await turns.check()
    await turns.flush()
    await turns.check()
    await turns.flush(payload=bytes(500))
    assert await count(store, "flushes") == FLUSHES_MAX + 4
    await turns.check()


async def test_a_killed_process_loses_no_flush(tmp_path: Path, store: SqliteStore, turns: Running) -> None:
    """The next process has every entry, whether its turn's log was read before or not, and can continue the logs."""
    await turns.flush("t1", "t2")
    await store.log("ann", "t1", 0)
    await turns.flush("t1", "t3")
    copy = tmp_path / "copy.db"
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"turnwire.db{suffix}", f"{copy}{suffix}")
    later = await opened(copy)
    await turns.check(later)
    turns.store = later
    await turns.flush()
    await turns.flush()
    await turns.check()
    await later.close()


async def test_a_file_of_version_8_is_taken_over(tmp_path: Path) -> None:
    """The logs of a file whose log has one entry in each row can be read and continued."""
    path = tmp_path / "old.db"
    store = await opened(path)
    running = Running(store, "t1", "t2")
    await running.accept()
    for _ in range(3):
        await running.flush("t1", payload=bytes(PAYLOAD_BYTES_MAX + 1))  # so long that it is written to the log itself
        await running.flush("t2", payload=bytes(PAYLOAD_BYTES_MAX + 1))
    await store.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM log WHERE flushes IS NULL").fetchone() == (6,)
        db.executescript(NEW_TABLES)
    later = await opened(path)
    await running.check(later)
    running.store = later
    await running.flush()
    await running.flush()
    await running.check()
    await later.close()


async def test_a_takeover_fences_the_former_owner(store: SqliteStore, turns: Running) -> None:
    """Law 9: after a claim, an append in the old epoch is refused, and the new epoch continues the log."""
    record = await store.claim("ann", "t1", "other", 1, 1000, force=True)
    assert record is not None
    assert record.seq == turns.logs["t1"][-1].last
    refused, other = await store.append([turns.next("t1"), late := turns.next("t2")])
    assert (refused.outcome, other.outcome) == ("fenced", "stored")
    turns.record(late)
    turns.epochs["t1"] = record.epoch
    for _ in range(3):
        await turns.flush("t1")
    await turns.check()


async def test_a_cancel_request_reaches_the_next_flush(store: SqliteStore, turns: Running) -> None:
    """The answer to an append has the cancel request, as long as the turn runs."""
    assert await store.request_cancel("ann", "t2", b"stop")
    for _ in range(2):
        appends = [turns.next("t1"), turns.next("t2")]
        assert await store.append(appends) == [
            Appended("stored", appends[0].last),
            Appended("stored", appends[1].last, b"stop"),
        ]
        turns.record(*appends)
    await turns.check()


async def test_an_ended_turn_takes_no_append(store: SqliteStore, turns: Running) -> None:
    """Law 3: nothing is appended after the ending. The ending continues the entries in the flushes."""
    turn = await store.turn("ann", "t1")
    last = turns.next("t1")
    ended: EndedTurn = ending(turn, events=last)
    await store.end(ended)
    turns.record(last)
    assert [one.outcome for one in await store.append([turns.next("t1"), last])] == ["fenced", "stored"]
    await turns.flush("t2", "t3")
    await turns.check()


async def test_repeated_and_gapped_appends(store: SqliteStore, turns: Running) -> None:
    """Law 4: an append may be repeated, in other cuts too; one that doesn't continue the log is refused."""
    t1, t2 = turns.logs["t1"], turns.logs["t2"]
    again = Append("ann", "t1", turns.epochs["t1"], t1[-1].first, t1[-1].last, t1[-1].payload)
    wider = Append("ann", "t2", turns.epochs["t2"], 1, t2[-1].last, b"another cut")
    other = Append("ann", "t1", turns.epochs["t1"], t1[-1].first, t1[-1].last, b"another text")
    gap = Append("ann", "t3", turns.epochs["t3"], 99, 99, b"")
    assert [one.outcome for one in await store.append([again, wider, gap])] == ["stored", "stored", "gap"]
    assert [one.outcome for one in await store.append([other])] == ["gap"]
    await turns.check()
    await turns.flush()
    await turns.check()


async def test_a_failed_flush_changes_nothing(store: SqliteStore, turns: Running) -> None:
    """After a full disk, the same flush can be repeated: what is in memory is that of the file again."""
    await store._db.run(lambda db: db.execute("PRAGMA max_page_count = 1").fetchone())
    appends = [turns.next(turn, payload=bytes(PAYLOAD_BYTES_MAX)) for turn in turns.logs]
    with pytest.raises(StoreError, match="disk is full"):
        for _ in range(FLUSHES_MAX):
            await store.append(appends)
    await store._db.run(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())
    await turns.check()
    assert [one.outcome for one in await store.append(appends)] == ["stored"] * 3
    turns.record(*appends)
    await turns.check()


async def test_long_entries_go_to_the_log(store: SqliteStore, turns: Running) -> None:
    """A long entry isn't written twice. Short ones before and after it stay in order."""
    await turns.flush("t1", payload=bytes(PAYLOAD_BYTES_MAX + 1))
    await turns.flush()
    await turns.flush("t1", "t2", payload=bytes(PAYLOAD_BYTES_MAX + 1))
    await turns.flush()
    await turns.check()


async def test_what_is_deleted_is_not_in_the_flushes(store: SqliteStore, tmp_path: Path) -> None:
    """After the deletion of a conversation, or of a user, the text of their turns isn't in the file, also if others' is."""
    await store.create_conversation(conversation())
    secret = (await store.accept(new_turn("secret"))).turn
    other = (await store.accept(stateless_turn("other", "bob"))).turn
    appends = [[piece(secret, n, n, payload=b"a canary"), piece(other, n, n, payload=b"a wagtail")] for n in (1, 2, 3)]
    for flush in appends:
        assert [one.outcome for one in await store.append(flush)] == ["stored"] * 2
    assert traces(tmp_path) == {b"canary", b"wagtail"}
    await store.delete_conversation("ann", "c1")
    assert await store._db.truncate_journal()
    assert traces(tmp_path) == {b"wagtail"}
    assert len(await store.log("bob", "other", 0)) == 3
    await store.append([piece(other, 4, 4, payload=b"a wagtail")])
    for seq in (5, 6):
        await store.append([piece(other, seq, seq, payload=b"")])
    await store.erase_user("bob")
    assert traces(tmp_path) == set()
    with pytest.raises(NotFound):
        await store.turn("bob", "other")


def traces(folder: Path) -> set[bytes]:
    """Return the birds that are in the files of the folder."""
    contents = b"".join(path.read_bytes() for path in folder.iterdir())
    return {bird for bird in (b"canary", b"wagtail") if bird in contents}


async def make_old(store: SqliteStore) -> None:
    """Make all flushes so old that a sweep cleans them."""
    age_ms = TTL_S * 1000 + CLEAN_AFTER_MS + 1
    await store._db.run(lambda db: db.execute("UPDATE flushes SET at_ms = at_ms - ?", (age_ms,)))


async def sweep(store: SqliteStore) -> None:
    """Delete the logs that have expired."""
    store._log._sweep_at_s -= SWEEP_INTERVAL_S
    await store.append([])


async def expire(store: SqliteStore, turns: Running, turn: str) -> None:
    """End a turn, and have its log expire."""
    record = await store.turn("ann", turn)
    await store.end(ending(record, events=turns.next(turn)))
    await store._db.run(lambda db: db.execute("UPDATE turns SET stored_ms = 1 WHERE turn = ?", (turn,)))
    del turns.logs[turn]


async def test_a_sweep_cleans_old_flushes(tmp_path: Path, store: SqliteStore, turns: Running) -> None:
    """Old flushes keep only the entries of turns whose log hasn't expired, and these go when it does; young ones stay."""
    for turn, payload in (("t1", b"a canary"), ("t2", b"a wagtail"), ("t1", b"a canary")):
        await turns.flush(turn, payload=payload)
    await turns.flush("t1", "t2")
    await expire(store, turns, "t1")
    flushes = await count(store, "flushes")
    await sweep(store)
    assert await count(store, "flushes") == flushes
    await make_old(store)
    await sweep(store)
    await turns.check()
    assert await count(store, "flushes") == 3  # those with an entry of t2 or t3
    assert await store._db.truncate_journal()
    assert traces(tmp_path) == {b"wagtail"}
    await turns.flush("t2", "t3", payload=b"a wagtail")
    await expire(store, turns, "t2")
    await sweep(store)
    await turns.check()
    assert await count(store, "flushes") == 2  # the one of all turns, and the young one
    await expire(store, turns, "t3")
    await sweep(store)
    assert await count(store, "flushes") == 1
    await make_old(store)
    await sweep(store)
    assert (await count(store, "log"), await count(store, "flushes")) == (0, 0)
    assert await store._db.truncate_journal()
    assert traces(tmp_path) == set()


async def test_an_erased_turn_leaves_cleaned_flushes(tmp_path: Path, store: SqliteStore, turns: Running) -> None:
    """What is left in a cleaned flush is deleted with its user, and the flush with the last of its turns."""
    await store.accept(stateless_turn("other", "bob"))
    bob = await store.turn("bob", "other")
    await store.append([piece(bob, 1, 1, payload=b"x")])
    for n in range(2, 5):
        new = turns.next("t1", b"a canary")
        await store.append([new, piece(bob, n, n, payload=b"a wagtail")])
        turns.record(new)
    await make_old(store)
    await sweep(store)
    assert len(await store.log("bob", "other", 0)) == 4
    await store.erase_user("bob")
    await turns.check()
    assert traces(tmp_path) == {b"canary"}
    flushes = await count(store, "flushes")
    await store.erase_user("ann")
    assert traces(tmp_path) == set()
    assert (flushes, await count(store, "flushes")) == (4, 0)


KILLED = """
import asyncio, sys
from store.records import Append
from store.sqlite.store import SqliteStore
from tests.stored import stateless_turn

async def write():
    store = SqliteStore(sys.argv[1])
    await store.open()
    epochs = {turn: (await store.accept(stateless_turn(turn))).turn.epoch for turn in map(str, range(20))}
    for seq in range(1, 100_000):
        await store.append([Append("ann", turn, epochs[turn], seq, seq, f"{turn}.{seq}".encode()) for turn in epochs])
        print(seq, flush=True)

asyncio.run(write())
"""


async def test_kill_9_in_the_middle_of_flushes(tmp_path: Path) -> None:
    """After kill -9 of a process that flushes all the time, the file has every flush that it was told is stored."""
    path = tmp_path / "killed.db"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(path), stdout=PIPE)
    assert process.stdout is not None
    for _ in range(FLUSHES_MAX * 3 // 2):
        line = await process.stdout.readline()
    process.kill()
    told = int([line, *(await process.stdout.read()).splitlines()][-1])
    await process.wait()
    store = await opened(path)
    for turn in map(str, range(20)):
        entries = await store.log("ann", turn, 0)
        assert [entry.payload for entry in entries] == [f"{turn}.{seq}".encode() for seq in range(1, len(entries) + 1)]
        assert told <= len(entries) <= told + 1
    await store.close()


async def test_an_expired_log_leaves_the_flushes(store: SqliteStore, turns: Running) -> None:
    """A sweep deletes the entries of an expired log wherever they are."""
    for turn in list(turns.logs):
        record = await store.turn("ann", turn)
        await store.end(ending(record, events=Append("ann", turn, record.epoch, record.seq + 1, record.seq, b"")))
    await store._db.run(lambda db: db.execute("UPDATE turns SET stored_ms = 1"))
    await make_old(store)
    await sweep(store)
    assert (await count(store, "log"), await count(store, "flushes")) == (0, 0)
    assert not store._db.flushes._tails
    assert not store._db.flushes._tails_by_row


async def test_the_file_stays_small(tmp_path: Path, store: SqliteStore) -> None:
    """The file is little larger than the payloads."""
    running = Running(store, *(f"t{n}" for n in range(50)))
    await running.accept()
    await store._db.truncate_journal()
    size = (tmp_path / "turnwire.db").stat().st_size
    payload, flushes = bytes(150), 8 * FLUSHES_MAX
    for _ in range(flushes):
        await running.flush(payload=payload)
    await store._db.truncate_journal()
    written = 50 * flushes * len(payload)
    assert (tmp_path / "turnwire.db").stat().st_size - size < 1.2 * written


async def test_a_flush_writes_little_to_the_journal(tmp_path: Path, store: SqliteStore) -> None:
    """The pages that flushes write are little longer than the payloads. Deleting the flushes writes each page once more."""
    running = Running(store, *(f"t{n}" for n in range(100)))
    await running.accept()
    await running.flush()
    assert await store._db.truncate_journal()
    payload, flushes = bytes(150), FLUSHES_MAX
    for _ in range(flushes):
        await running.flush(payload=payload)
    written = 100 * flushes * len(payload)
    journal = tmp_path / "turnwire.db-wal"
    assert written < journal.stat().st_size < 1.8 * written
    for turn in list(running.logs):
        await expire(store, running, turn)
    await make_old(store)
    assert await store._db.truncate_journal()
    while await count(store, "flushes"):
        await sweep(store)
    assert journal.stat().st_size < 2.5 * written


async def test_random_calls(tmp_path: Path, store: SqliteStore) -> None:
    """Whatever is called in between, and wherever the process is killed, the logs are what was accepted."""
    running = Running(store, *(f"t{n}" for n in range(6)))
    await running.accept()
    for step in range(250):
        chosen = random.sample(sorted(running.logs), random.randint(1, 6))
        match random.randrange(14):
            case 0:
                await store.log("ann", chosen[0], random.randint(0, 5))
            case 1:
                record = await store.claim("ann", chosen[0], "other", 1, 1000, force=True)
                assert record is not None
                running.epochs[chosen[0]] = record.epoch
            case 2:
                await store.erase_user("nobody")
            case 4:
                await make_old(store)
                await sweep(store)
            case 5:
                await expire(store, running, chosen[0])
                running.logs[f"u{step}"] = []
                await running.accept_one(f"u{step}")
            case 3 if step % 5 == 0:
                copy = tmp_path / f"copy{step}.db"
                for suffix in ("", "-wal"):
                    shutil.copy(tmp_path / f"turnwire.db{suffix}", f"{copy}{suffix}")
                later = await opened(copy)
                await running.check(later)
                await later.close()
            case _:
                large = random.random() < 0.1
                appends = [running.next(turn, bytes(PAYLOAD_BYTES_MAX + 1) if large else None) for turn in chosen]
                assert [one.outcome for one in await store.append(appends)] == ["stored"] * len(chosen)
                running.record(*appends)
    await running.check()
