"""The turns' logs in the embedded store: append, read, and forget some time after the ending."""

from __future__ import annotations

import sqlite3
import time
from typing import NamedTuple

from store.base import Append, Appended, LogEntry
from store.embedded_turns import clock_ms, find, log_end
from store.signals import Signal, entry_signal

READ_BYTES_MAX = 1024 * 1024
SWEEP_INTERVAL_S = 60.0
SWEEP_ROWS_MAX = 1000


class Written(NamedTuple):
    """What became of an append, and what to tell about it."""

    appended: Appended
    signals: list[Signal]


class EmbeddedLog:
    """The log table. Its methods run in the database's thread, inside a transaction."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_ms = int(ttl_s * 1000)
        self._sweep_at_s = 0.0

    def append(self, db: sqlite3.Connection, appends: list[Append]) -> tuple[list[Appended], list[Signal]]:
        """Write all of them: one transaction is one flush of every turn (`Store.append`)."""
        written = [self.add(db, one) for one in appends]
        self.sweep(db)
        return [one.appended for one in written], [signal for one in written for signal in one.signals]

    def add(self, db: sqlite3.Connection, new: Append) -> Written:
        """One append, judged by what the log has now."""
        row = find(db, new.user, new.turn)
        if row is None:
            return Written(Appended("missing", 0), [])
        end = log_end(db, row)
        if row["epoch"] != new.epoch:
            return Written(Appended("fenced", end), [])
        if new.last <= end and _has(db, row["n"], new):
            return Written(Appended("stored", end, row["cancel"]), [])
        if row["stored_ms"] is not None:
            # Nothing follows an ending, whoever writes it.
            return Written(Appended("fenced", end), [])
        if new.first != end + 1:
            return Written(Appended("gap", end, row["cancel"]), [])
        db.execute(
            "INSERT INTO log (turn, epoch, first, last, payload) VALUES (?, ?, ?, ?, ?)",
            (row["n"], new.epoch, new.first, new.last, new.payload),
        )
        return Written(Appended("stored", new.last, row["cancel"]), [entry_signal(new)])

    def read(self, db: sqlite3.Connection, user: str, turn: str, after: int) -> list[LogEntry]:
        """See `Store.log`."""
        row = find(db, user, turn)
        if row is None or (row["stored_ms"] is not None and row["stored_ms"] <= clock_ms() - self._ttl_ms):
            return []
        entries: list[LogEntry] = []
        size = 0
        for entry in db.execute(
            "SELECT epoch, first, last, payload FROM log WHERE turn = ? AND last > ? ORDER BY last",
            (row["n"], after),
        ):
            size += len(entry["payload"])
            if entries and size > READ_BYTES_MAX:
                break
            entries.append(LogEntry(entry["epoch"], entry["first"], entry["last"], entry["payload"]))
        return entries

    def sweep(self, db: sqlite3.Connection) -> None:
        """Now and then delete what has expired: a bounded piece, and the next one at the next call."""
        now_s = time.monotonic()
        if now_s < self._sweep_at_s:
            return
        left = SWEEP_ROWS_MAX
        while left > 0:
            row = db.execute(
                "SELECT n FROM turns WHERE logged AND stored_ms <= ? ORDER BY stored_ms LIMIT 1",
                (clock_ms() - self._ttl_ms,),
            ).fetchone()
            if row is None:
                self._sweep_at_s = now_s + SWEEP_INTERVAL_S
                return
            deleted = db.execute(
                "DELETE FROM log WHERE n IN (SELECT n FROM log WHERE turn = ? ORDER BY last LIMIT ?)",
                (row["n"], left),
            ).rowcount
            if deleted < left:
                db.execute("UPDATE turns SET logged = 0 WHERE n = ?", (row["n"],))
            # A turn without any entry is work too.
            left -= max(deleted, 1)


def _has(db: sqlite3.Connection, n: int, new: Append) -> bool:
    """Whether these events, which are not behind the log's end, are in it as this epoch wrote them."""
    # Epochs only grow along a log, so where its first event is this epoch's, the others are.
    held = db.execute(
        "SELECT epoch, first, last, payload FROM log WHERE turn = ? AND last >= ? ORDER BY last LIMIT 1",
        (n, new.first),
    ).fetchone()
    if held is None or held["epoch"] != new.epoch:
        return False
    # A repeat may be cut into other pieces; where it is the same piece, it must be the same events.
    return (held["first"], held["last"]) != (new.first, new.last) or bool(held["payload"] == new.payload)
