"""The newest log entries of running turns: one row for each flush, whichever turns it has.

The table `flushes` only survives a crash. The entries are also in memory, and from there they move to the table `log`: those
of one turn when something else needs its log, and those of all turns when there are many, as one row for each turn.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Concatenate, ParamSpec, TypeVar

import msgspec

from store.records import Append

P = ParamSpec("P")
T = TypeVar("T")

FLUSHES_MAX = 32
BYTES_MAX = 1024 * 1024
"""The number of flushes, and the bytes of their payloads, that are moved to the log at the latest."""
PAYLOAD_BYTES_MAX = 16 * 1024
"""A longer entry is written to the log at once, because it would be written twice here."""

_INSERT_ALL = """
INSERT INTO log (turn, previous, epoch, first, last, payload, cuts)
SELECT json_extract(value, '$[0]'),
    (SELECT entry FROM log_tails WHERE turn = json_extract(value, '$[0]')),
    json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
    substr(?, json_extract(value, '$[4]'), json_extract(value, '$[5]')), json_extract(value, '$[6]')
FROM json_each(?)
"""
_TRIGGERS = """
CREATE TEMP TRIGGER turn_changes AFTER UPDATE OF user, turn, epoch, cancel, stored_ms ON main.turns BEGIN
    SELECT forget_tail(old.n);
END;
CREATE TEMP TRIGGER turn_goes AFTER DELETE ON main.turns BEGIN
    SELECT forget_tail(old.n);
END;
"""
Entry = tuple[int, int, int, int, bytes]
"""The number of the turn's row, the epoch, the first seq, the last seq, and the payload."""
_encode_json = msgspec.json.Encoder().encode
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Entry]).decode


class _Tail:
    """The end of a running turn's log. `entries` are those that aren't in the table `log` yet.

    `is_followed`: the turn has no ending and no cancel request, and `epoch` is its epoch. If one of these changes, whoever
    changes it, a trigger ends that.
    """

    __slots__ = ("end", "entries", "epoch", "is_followed", "key", "n")

    def __init__(self, n: int, key: tuple[str, str], epoch: int, end: int) -> None:
        self.n = n
        self.key = key
        self.epoch = epoch
        self.end = end
        self.is_followed = True
        self.entries: list[Entry] = []

    def continued_by(self, new: Append) -> bool:
        """Return whether `new` may be added without asking the table of turns."""
        return self.is_followed and self.epoch == new.epoch and self.end + 1 == new.first


class Flushes:
    """The flushes that aren't in the table `log` yet. All methods run in the database's thread, inside a transaction."""

    def __init__(self) -> None:
        self._tails: dict[tuple[str, str], _Tail] = {}
        """The tails of the turns that are followed or that have entries here, by user and turn."""
        self._tails_by_row: dict[int, _Tail] = {}
        self._count = self._bytes = 0
        self._is_changed = False
        """Whether the current transaction has changed what is in memory."""
        self._is_lost = True
        """Whether what is in memory may differ from the file: after a rollback, and for a file that was just opened."""

    def connect(self, db: sqlite3.Connection) -> None:
        """Use this connection, which is the only one that writes."""
        db.create_function("forget_tail", 1, self._forget)
        db.create_function("newest_seq", 1, self._newest_seq)
        db.executescript(_TRIGGERS)

    def begin(self, db: sqlite3.Connection) -> None:
        """Begin a transaction."""
        if self._is_lost:
            self._recover(db)

    def commit(self) -> None:
        """Note that the transaction was committed."""
        self._is_changed = False

    def roll_back(self) -> None:
        """Note that the transaction was rolled back."""
        self._is_lost = self._is_lost or self._is_changed
        self._is_changed = False

    def settled(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T]
    ) -> Callable[Concatenate[sqlite3.Connection, P], T]:
        """Return a function that moves all entries to the log, so that they are nowhere else, then calls `work`."""

        def run(db: sqlite3.Connection, /, *args: P.args, **kwargs: P.kwargs) -> T:
            self.settle_all(db)
            return work(db, *args, **kwargs)

        return run

    def add(self, db: sqlite3.Connection, appends: list[Append]) -> list[int]:
        """Write those of the appends that continue the log of a turn that is followed, in one row.

        Return the indexes of the others.
        """
        tails = self._tails
        entries: list[Entry] = []
        others: list[int] = []
        size = 0
        for index, new in enumerate(appends):
            tail = tails.get((new.user, new.turn))
            length = len(new.payload)
            if tail is not None and tail.continued_by(new) and length <= PAYLOAD_BYTES_MAX:
                entry = (tail.n, new.epoch, new.first, new.last, new.payload)
                tail.end = new.last
                tail.entries.append(entry)
                entries.append(entry)
                size += length
            else:
                others.append(index)
        if entries:
            self._is_changed = True
            self._count += 1
            self._bytes += size
            db.execute("INSERT INTO flushes (entries) VALUES (?)", (_encode(entries),))
        return others

    def follow(self, n: int, new: Append) -> None:
        """Follow the turn in row `n`, whose log ends with `new`, and which has no ending and no cancel request."""
        self._is_changed = True
        key = (new.user, new.turn)
        self._tails[key] = self._tails_by_row[n] = _Tail(n, key, new.epoch, new.last)

    def settle(self, db: sqlite3.Connection, user: str, turn: str) -> None:
        """Move the entries of the turn to the log."""
        tail = self._tails.get((user, turn))
        if tail is not None and tail.entries:
            self._is_changed = True
            insert_entries(db, [tail.entries])
            tail.entries = []
            self._drop_if_unused(tail)

    def settle_if_long(self, db: sqlite3.Connection) -> None:
        """Move all entries to the log if there are many."""
        if self._count >= FLUSHES_MAX or self._bytes >= BYTES_MAX:
            self.settle_all(db)

    def settle_all(self, db: sqlite3.Connection) -> None:
        """Move all entries to the log."""
        if self._count == 0:
            return
        self._is_changed = True
        tails = self._tails_by_row.values()
        insert_entries(db, [tail.entries for tail in tails])
        followed = [tail for tail in tails if tail.is_followed]
        for tail in followed:
            tail.entries = []
        self._tails = {tail.key: tail for tail in followed}
        self._tails_by_row = {tail.n: tail for tail in followed}
        self._clear(db)

    def _clear(self, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM flushes")
        self._count = self._bytes = 0

    def _recover(self, db: sqlite3.Connection) -> None:
        """Move the entries of the file to the log, unless they are there already, and follow no turn."""
        self._tails.clear()
        self._tails_by_row.clear()
        ends: dict[int, int] = {}
        moved: dict[tuple[int, int], list[Entry]] = {}
        for (row,) in db.execute("SELECT entries FROM flushes ORDER BY n"):
            for entry in _decode(row):
                n, epoch, first, last, _ = entry
                if n not in ends:
                    ends[n] = _end_of_log(db, n)
                if first == ends[n] + 1:
                    ends[n] = last
                    moved.setdefault((n, epoch), []).append(entry)
        insert_entries(db, moved.values())
        self._clear(db)
        self._is_lost = False
        self._is_changed = True

    def _forget(self, n: int) -> None:
        """Follow the turn in row `n` no more. Called by a trigger."""
        tail = self._tails_by_row.get(n)
        if tail is not None:
            self._is_changed = True
            tail.is_followed = False
            self._drop_if_unused(tail)

    def _drop_if_unused(self, tail: _Tail) -> None:
        if not tail.is_followed and not tail.entries:
            del self._tails_by_row[tail.n]
            if self._tails.get(tail.key) is tail:
                del self._tails[tail.key]

    def _newest_seq(self, n: int) -> int | None:
        """Return the last seq of the entries here of the turn in row `n`, or None. Called in SQL."""
        tail = self._tails_by_row.get(n)
        return tail.end if tail is not None and tail.entries else None


def split(row: sqlite3.Row) -> Iterable[Entry]:
    """Return the entries in a row of the table `log`: it has several if it has `cuts`."""
    if row["cuts"] is None:
        return [(row["turn"], row["epoch"], row["first"], row["last"], row["payload"])]
    entries: list[Entry] = []
    first, start = row["first"], 0
    for last, size in msgspec.json.decode(row["cuts"]):
        entries.append((row["turn"], row["epoch"], first, last, row["payload"][start : start + size]))
        first, start = last + 1, start + size
    return entries


def insert_entries(db: sqlite3.Connection, entries_of_turns: Iterable[list[Entry]]) -> None:
    """Insert a row into the table `log` for each turn. The entries of one turn follow each other, and have one epoch."""
    rows: list[tuple[object, ...]] = []
    payloads: list[bytes] = []
    start = 1
    for entries in entries_of_turns:
        if not entries:
            continue
        n, epoch, first, last, _ = entries[0]
        cuts: list[tuple[int, int]] | None = None
        size = len(entries[0][4])
        if len(entries) > 1:
            cuts = [(entry[3], len(entry[4])) for entry in entries]
            last, size = entries[-1][3], sum([cut[1] for cut in cuts])
        payloads += [entry[4] for entry in entries]
        rows.append((n, epoch, first, last, start, size, cuts))
        start += size
    if rows:
        db.execute(_INSERT_ALL, (b"".join(payloads), _encode_json(rows).decode()))


def _end_of_log(db: sqlite3.Connection, n: int) -> int:
    """Return the last seq in the table `log` of the turn in row `n`; -1 if there is no such turn, so that nothing follows."""
    row = db.execute(
        "SELECT coalesce((SELECT last FROM log_tails WHERE turn = n), 0) FROM turns WHERE n = ?", (n,)
    ).fetchone()
    return -1 if row is None else int(row[0])
