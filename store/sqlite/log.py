"""The event logs of turns in the SQLite store: append to them, read them, and delete the expired ones.

Most appends are written by `flushes.py`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

import msgspec

from store.records import Append, Appended, LogEntry
from store.sqlite.flushes import Flushes, read_rows
from store.sqlite.turns import clock_ms, find_row

READ_BYTES_MAX = 1024 * 1024
SWEEP_INTERVAL_S = 60.0
SWEEP_ROWS_MAX = 1000
ALL = 2**62

# A flush of many turns usually takes only two statements, and neither returns more than one row. For each statement and
# each row, SQLite's thread has to get the GIL back from the event loop, which costs more than the rest of the work.
_CONTINUING = """
SELECT json_group_array(json_array(new.key, turns.n))
FROM json_each(?) AS new CROSS JOIN turns
    ON turns.user = json_extract(new.value, '$[0]') AND turns.turn = json_extract(new.value, '$[1]')
WHERE turns.epoch = json_extract(new.value, '$[2]') AND turns.stored_ms IS NULL AND turns.cancel IS NULL
    AND json_extract(new.value, '$[3]')
        = 1 + coalesce((SELECT last FROM log_tails WHERE log_tails.turn = turns.n), 0)
"""
_INSERT_ALL = """
INSERT INTO log (turn, previous, epoch, first, last, payload)
SELECT json_extract(value, '$[0]'),
    (SELECT entry FROM log_tails WHERE turn = json_extract(value, '$[0]')),
    json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
    substr(?, json_extract(value, '$[4]'), json_extract(value, '$[5]'))
FROM json_each(?)
"""
_INSERT = """
INSERT INTO log (turn, previous, epoch, first, last, payload)
VALUES (?1, (SELECT entry FROM log_tails WHERE turn = ?1), ?2, ?3, ?4, ?5)
"""
_READ = """
WITH RECURSIVE chain (n, previous, first) AS (
    SELECT log.n, previous, first FROM log_tails JOIN log ON log.n = entry WHERE log_tails.turn = ?1
    UNION ALL
    SELECT log.n, log.previous, log.first FROM chain JOIN log ON log.n = chain.previous WHERE chain.first > ?2
)
SELECT epoch, log.first, last, payload, flushes FROM chain JOIN log USING (n) WHERE last >= ?2 ORDER BY n
"""
"""Selects the turn's log entries, starting with the one that contains event ?2."""
_NEWEST = """
WITH RECURSIVE chain (n, previous, flushes, size) AS (
    SELECT log.n, previous, flushes, 1 + coalesce(json_array_length(flushes), 0)
    FROM log_tails JOIN log ON log.n = entry WHERE log_tails.turn = ?1
    UNION ALL
    SELECT log.n, log.previous, log.flushes, size + 1 + coalesce(json_array_length(log.flushes), 0)
    FROM chain JOIN log ON log.n = chain.previous WHERE size < ?2
)
SELECT n, previous, flushes, size FROM chain
"""
"""Selects the turn's newest rows of the log, until they are ?2 rows, with the rows of `flushes` that they name."""
_encode = msgspec.json.Encoder().encode
_decode_continuing = msgspec.json.Decoder(list[tuple[int, int]], float_hook=float).decode


class Written(NamedTuple):
    """The result of an append; `is_new` says whether it wrote a new entry, which must then be published."""

    appended: Appended
    is_new: bool


class SqliteLog:
    """The log table. Its methods run in the database's thread, inside a transaction."""

    def __init__(self, ttl_s: float, flushes: Flushes) -> None:
        self._ttl_ms = int(ttl_s * 1000)
        self._flushes = flushes
        self._sweep_at_s = 0.0

    def append(self, db: sqlite3.Connection, appends: list[Append]) -> tuple[list[Appended], list[Append]]:
        """Write `appends`, those of one flush, within the current transaction; see `TurnStore.append`.

        Return the outcomes in order, and the appends that wrote a new entry.
        """
        others = self._flushes.add(db, appends, clock_ms())
        outcomes, published = [Appended("stored", new.last) for new in appends], appends
        if others:
            written = dict(zip(others, self._add_each(db, [appends[index] for index in others]), strict=True))
            for index, one in written.items():
                outcomes[index] = one.appended
            published = [new for n, new in enumerate(appends) if n not in written or written[n].is_new]
        self._flushes.settle_if_long(db)
        self.sweep(db)
        return outcomes, published

    def _add_each(self, db: sqlite3.Connection, appends: list[Append]) -> list[Written]:
        """Write appends that the flushes didn't take. Follow the turns whose log they continue."""
        continuing = self._add_continuing(db, appends)
        return [
            Written(Appended("stored", new.last), is_new=True) if index in continuing else self.add(db, new)
            for index, new in enumerate(appends)
        ]

    def _add_continuing(self, db: sqlite3.Connection, appends: list[Append]) -> set[int]:
        """Write all appends that continue the log of a running turn without a cancel request, with one INSERT.

        Return their indexes in `appends`. Writes nothing if there is only one append, or if two are for the same turn.
        """
        if len(appends) < 2 or len({(new.user, new.turn) for new in appends}) < len(appends):
            return set()
        for new in appends:
            self._flushes.settle(db, new.user, new.turn)
        keys = _encode([(new.user, new.turn, new.epoch, new.first) for new in appends]).decode()
        (found,) = db.execute(_CONTINUING, (keys,)).fetchone()
        turn_rows = dict(_decode_continuing(found))
        chosen = [(n, appends[index]) for index, n in turn_rows.items()]
        starts = accumulate((len(new.payload) for _, new in chosen), initial=1)
        rows = [
            (n, new.epoch, new.first, new.last, start, len(new.payload))
            for (n, new), start in zip(chosen, starts, strict=False)
        ]
        db.execute(_INSERT_ALL, (b"".join([new.payload for _, new in chosen]), _encode(rows).decode()))
        for n, new in chosen:
            self._flushes.follow(n, new)
        return set(turn_rows)

    def add(self, db: sqlite3.Connection, new: Append) -> Written:
        """Write one append if it starts right after the current end of the turn's log."""
        row = find_row(db, new.user, new.turn)
        if row is None:
            return Written(Appended("missing", 0), is_new=False)
        self._flushes.settle(db, new.user, new.turn)
        end = row["seq"]
        if row["epoch"] != new.epoch:
            return Written(Appended("fenced", end), is_new=False)
        if new.last <= end and _is_stored(db, row["n"], new):
            return Written(Appended("stored", end, row["cancel"]), is_new=False)
        if row["stored_ms"] is not None:
            # Nothing may be appended after the ending, not even by the epoch that stored the ending.
            return Written(Appended("fenced", end), is_new=False)
        if new.first != end + 1:
            return Written(Appended("gap", end, row["cancel"]), is_new=False)
        db.execute(_INSERT, (row["n"], new.epoch, new.first, new.last, new.payload))
        if row["cancel"] is None:
            self._flushes.follow(row["n"], new)
        return Written(Appended("stored", new.last, row["cancel"]), is_new=True)

    def read(self, db: sqlite3.Connection, user: str, turn: str, after: int) -> list[LogEntry]:
        """See `TurnStore.log`."""
        row = find_row(db, user, turn)
        if row is None or (row["stored_ms"] is not None and row["stored_ms"] <= clock_ms() - self._ttl_ms):
            return []
        self._flushes.settle(db, user, turn)
        entries: list[LogEntry] = []
        size = 0
        for entry in _entries(db, row["n"], after + 1):
            size += len(entry.payload)
            if entries and size > READ_BYTES_MAX:
                break
            entries.append(entry)
        return entries

    def sweep(self, db: sqlite3.Connection) -> None:
        """Delete at most `SWEEP_ROWS_MAX` rows of expired logs; the next calls delete the rest.

        Once none are left, calls do nothing for `SWEEP_INTERVAL_S`.
        """
        now_s = time.monotonic()
        if now_s < self._sweep_at_s:
            return
        rows_left = SWEEP_ROWS_MAX
        while rows_left > 0:
            row = db.execute(
                "SELECT n FROM turns WHERE logged AND stored_ms <= ? ORDER BY stored_ms LIMIT 1",
                (clock_ms() - self._ttl_ms,),
            ).fetchone()
            if row is None:
                if not self._flushes.clean(db, clock_ms() - self._ttl_ms):
                    self._sweep_at_s = now_s + SWEEP_INTERVAL_S
                return
            deleted = delete_newest(db, self._flushes, row["n"], rows_left)
            if deleted < rows_left:
                db.execute("UPDATE turns SET logged = 0 WHERE n = ?", (row["n"],))
            # A turn without entries counts as one row, so that the loop is bounded.
            rows_left -= max(deleted, 1)


def delete_newest(db: sqlite3.Connection, flushes: Flushes, turn: int, count: int = ALL, *, erase: bool = False) -> int:
    """Delete the newest log entries of the turn in row `turn`, about `count` of them. Return how many were deleted.

    If that is less than `count`, none is left. `erase`: nothing of their text stays in the file. Otherwise it may stay for
    some minutes.
    """
    flushes.settle_row(db, turn)
    rows = db.execute(_NEWEST, (turn, count)).fetchall()
    if not rows:
        return 0
    for row in rows:
        if row["flushes"] is not None:
            flushes.release(db, turn, row["flushes"], erase=erase)
    db.executemany("DELETE FROM log WHERE n = ?", ((row["n"],) for row in rows))
    previous = rows[-1]["previous"]
    if previous is None:
        db.execute("DELETE FROM log_tails WHERE turn = ?", (turn,))
    else:
        db.execute("UPDATE log_tails SET entry = ? WHERE turn = ?", (previous, turn))
    return int(rows[-1]["size"])


def _is_stored(db: sqlite3.Connection, n: int, new: Append) -> bool:
    """Return whether the log of the turn in row `n` already contains the events of `new`, from the same epoch.

    `new` must be of the current epoch and must not extend past the log's end.
    """
    # Epochs never decrease within a log: if the first event is from the current epoch, the others are too.
    entry = next(_entries(db, n, new.first), None)
    if entry is None or entry.epoch != new.epoch:
        return False
    # A repeated append may cover another range; then the payloads can't be compared. For the same range they must match.
    return (entry.first, entry.last) != (new.first, new.last) or entry.payload == new.payload


def _entries(db: sqlite3.Connection, n: int, seq: int) -> Iterator[LogEntry]:
    """Yield the entries of the turn in row `n`, starting with the one that contains event `seq`."""
    for row in db.execute(_READ, (n, seq)):
        if row["flushes"] is None:
            yield LogEntry(row["epoch"], row["first"], row["last"], row["payload"])
        else:
            yield from (entry for entry in read_rows(db, n, row["epoch"], row["flushes"]) if entry.last >= seq)
