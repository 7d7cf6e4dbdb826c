"""The log entries of running turns, in rows that have the entries of several turns: a flush adds few rows.

The entries stay in these rows. The table `log` gets a row with the numbers of those that have a turn's entries, when
something needs the turn's log, and for all turns when there are many. Until then, the numbers are in memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import accumulate, takewhile

import msgspec

from store.records import Append, LogEntry

FLUSHES_MAX = 64
BYTES_MAX = 4 * 1024 * 1024
"""After this many flushes, or bytes, the log names all rows. So little is read after a crash."""
ROW_BYTES = 820
"""A row with more than one entry isn't longer. Several fit a page, so that little space is lost."""
ENTRY_BYTES = 9
"""About how long an entry is besides its payload."""
ROWS_AT_ONCE = 150
"""How many rows one statement inserts."""
PAYLOAD_BYTES_MAX = 16 * 1024
"""A longer entry is written to the log itself, because it fills pages of its own anyway."""
CLEAN_AFTER_MS = 120_000
"""A row is cleaned this long after its first entry may expire, when most of its turns have ended and expired too."""
CLEANED_AT_ONCE = 200

_INSERT = """
INSERT INTO log (turn, previous, epoch, first, last, payload, flushes)
SELECT json_extract(value, '$[0]'),
    (SELECT entry FROM log_tails WHERE turn = json_extract(value, '$[0]')),
    json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'), x'', json_extract(value, '$[4]')
FROM json_each(?)
"""
_READ = "SELECT entries, payloads FROM flushes WHERE n IN (SELECT value FROM json_each(?)) ORDER BY n"
_LOGGED = "SELECT json_group_array(n) FROM turns WHERE logged AND n IN (SELECT value FROM json_each(?))"
_TRIGGERS = """
CREATE TEMP TRIGGER turn_changes AFTER UPDATE OF user, turn, epoch, cancel, stored_ms ON main.turns BEGIN
    SELECT forget_tail(old.n);
END;
CREATE TEMP TRIGGER turn_goes AFTER DELETE ON main.turns BEGIN
    SELECT forget_tail(old.n);
END;
"""
Entry = tuple[int, int, int, int]
"""The number of the turn's row, the first seq, the number of events, and the bytes of the payload.

The file has four lists, one for each of these, so that the entries of a turn are found without a loop over the others. The
epoch is in the log: `follow` is called for an entry in the log, and all entries after it are of the same epoch.
"""
_Row = tuple[list[Entry], list[bytes]]
_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder(list[int], float_hook=float).decode
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[list[int], list[int], list[int], list[int]]).decode


class _Tail:
    """The end of a running turn's log. `rows` are those that the table `log` doesn't name yet; `first` is their first seq.

    `is_followed`: the turn has no ending and no cancel request, and `epoch` is its epoch. If one of these changes, whoever
    changes it, a trigger ends that.
    """

    __slots__ = ("end", "epoch", "first", "is_followed", "key", "n", "rows")

    def __init__(self, n: int, key: tuple[str, str], epoch: int, end: int) -> None:
        self.n = n
        self.key = key
        self.epoch = epoch
        self.end = end
        self.first = end + 1
        self.is_followed = True
        self.rows: list[int] = []


class Flushes:
    """The table `flushes`. All methods run in the database's thread, inside a transaction."""

    def __init__(self) -> None:
        self._tails: dict[tuple[str, str], _Tail] = {}
        """The tails of the turns that are followed or that have rows here, by user and turn."""
        self._tails_by_row: dict[int, _Tail] = {}
        self._newest = self._cleaned = 0
        """The numbers of the newest row, and of the newest one that was cleaned."""
        self._since = 1
        """The first row that the log may not name yet."""
        self._count = self._bytes = 0
        """The number of flushes since then, and their bytes."""
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

    def add(self, db: sqlite3.Connection, appends: list[Append], now_ms: int) -> list[int]:
        """Write those of the appends that continue the log of a turn that is followed. Return the indexes of the others."""
        tails = self._tails
        row = self._newest
        rows: list[_Row] = []
        others: list[int] = []
        used = ROW_BYTES
        for index, new in enumerate(appends):
            tail = tails.get((new.user, new.turn))
            payload, first = new.payload, new.first
            size = len(payload)
            if (
                tail is None
                or not tail.is_followed
                or tail.epoch != new.epoch
                or tail.end + 1 != first
                or size > PAYLOAD_BYTES_MAX
            ):
                others.append(index)
                continue
            used += size + ENTRY_BYTES
            if used > ROW_BYTES:
                row += 1
                entries: list[Entry] = []
                payloads: list[bytes] = []
                rows.append((entries, payloads))
                used = size + ENTRY_BYTES
            tail.end = last = new.last
            tail.rows.append(row)
            entries.append((tail.n, first, last - first + 1, size))
            payloads.append(payload)
        if rows:
            self._write(db, rows, now_ms)
        return others

    def _write(self, db: sqlite3.Connection, rows: list[_Row], now_ms: int) -> None:
        self._is_changed = True
        self._count += 1
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            values: list[object] = []
            for entries, payloads in part:
                self._newest += 1
                joined = b"".join(payloads)
                self._bytes += len(joined)
                values += (self._newest, self._since, now_ms, _encode(list(zip(*entries, strict=True))), joined)
            db.execute(f"INSERT INTO flushes VALUES (?, ?, ?, ?, ?){', (?, ?, ?, ?, ?)' * (len(part) - 1)}", values)

    def follow(self, n: int, new: Append) -> None:
        """Follow the turn in row `n`, whose log ends with `new`, and which has no ending and no cancel request."""
        self._is_changed = True
        key = (new.user, new.turn)
        self._tails[key] = self._tails_by_row[n] = _Tail(n, key, new.epoch, new.last)

    def settle(self, db: sqlite3.Connection, user: str, turn: str) -> None:
        """Name the rows of the turn in the log."""
        tail = self._tails.get((user, turn))
        if tail is not None and tail.rows:
            self._insert(db, [tail])
            self._drop_if_unused(tail)

    def settle_row(self, db: sqlite3.Connection, n: int) -> None:
        """Name the rows of the turn in row `n` of the turns in the log, and follow it no more."""
        self._forget(n)
        tail = self._tails_by_row.get(n)
        if tail is not None:
            self._insert(db, [tail])
            self._drop_if_unused(tail)

    def settle_if_long(self, db: sqlite3.Connection) -> None:
        """Name all rows in the log if there are many that it doesn't name."""
        if self._count < FLUSHES_MAX and self._bytes < BYTES_MAX:
            return
        self._insert(db, [tail for tail in self._tails_by_row.values() if tail.rows])
        followed = [tail for tail in self._tails_by_row.values() if tail.is_followed]
        self._tails = {tail.key: tail for tail in followed}
        self._tails_by_row = {tail.n: tail for tail in followed}
        self._since = self._newest + 1
        self._count = self._bytes = 0

    def _insert(self, db: sqlite3.Connection, tails: list[_Tail]) -> None:
        self._is_changed = True
        rows = [(tail.n, tail.epoch, tail.first, tail.end, tail.rows) for tail in tails]
        if rows:
            db.execute(_INSERT, (_encode_json(rows).decode(),))
        for tail in tails:
            tail.first, tail.rows = tail.end + 1, []

    def release(self, db: sqlite3.Connection, n: int, rows: str, *, erase: bool) -> None:
        """Give up the entries of the turn in row `n` of the turns. `rows`, as JSON, have them; the log no longer names them.

        What is in rows that were cleaned is deleted. The rest is deleted when its row is cleaned; until then, it is
        overwritten with zeros if `erase` is true.
        """
        for row in set(_decode_json(rows)):
            if row <= self._cleaned:
                _delete(db, row, {n})
            elif erase:
                _overwrite(db, row, n)

    def clean(self, db: sqlite3.Connection, before_ms: int) -> bool:
        """Delete what has expired in some of the rows from before `before_ms`. Return whether there may be more."""
        rows = db.execute(
            "SELECT n, at_ms, entries FROM flushes WHERE n > ? ORDER BY n LIMIT ?", (self._cleaned, CLEANED_AT_ONCE)
        ).fetchall()
        old = list(takewhile(lambda row: row[1] < before_ms - CLEAN_AFTER_MS, rows))
        if old:
            self._is_changed = True
            turns = {turn for _, _, entries in old for turn in _decode(entries)[0]}
            (logged,) = db.execute(_LOGGED, (_encode_json(list(turns)).decode(),)).fetchone()
            expired = turns.difference(_decode_json(logged))
            for row, _, _ in old:
                _delete(db, row, expired)
            self._cleaned = old[-1][0]
        return len(old) == CLEANED_AT_ONCE

    def _recover(self, db: sqlite3.Connection) -> None:
        """Name the rows of the file in the log, unless it names them already, and follow no turn."""
        self._tails.clear()
        self._tails_by_row.clear()
        self._is_changed = True
        tails: dict[int, _Tail] = {}
        rows = db.execute(
            "SELECT n, entries FROM flushes WHERE n >= (SELECT since FROM flushes ORDER BY n DESC LIMIT 1) ORDER BY n"
        ).fetchall()
        for row, lists in rows:
            for n, first, count, _ in zip(*_decode(lists), strict=True):
                tail = tails.get(n) or tails.setdefault(n, _tail_in_log(db, n))
                if first == tail.end + 1:
                    tail.end += count
                    tail.rows.append(row)
        self._insert(db, [tail for tail in tails.values() if tail.rows])
        self._newest = rows[-1][0] if rows else 0
        self._since = self._newest + 1
        self._count = self._bytes = self._cleaned = 0
        self._is_lost = False

    def _forget(self, n: int) -> None:
        """Follow the turn in row `n` no more. Called by a trigger."""
        tail = self._tails_by_row.get(n)
        if tail is not None:
            self._is_changed = True
            tail.is_followed = False
            self._drop_if_unused(tail)

    def _drop_if_unused(self, tail: _Tail) -> None:
        if not tail.is_followed and not tail.rows:
            del self._tails_by_row[tail.n]
            if self._tails.get(tail.key) is tail:
                del self._tails[tail.key]

    def _newest_seq(self, n: int) -> int | None:
        """Return the last seq of the turn in row `n` if the log doesn't name its last row yet, or None. Called in SQL."""
        tail = self._tails_by_row.get(n)
        return tail.end if tail is not None and tail.rows else None


def read_rows(db: sqlite3.Connection, n: int, epoch: int, rows: str) -> Iterator[LogEntry]:
    """Yield the entries of the turn in row `n` of the turns, which `rows`, as JSON, have."""
    for entries, payloads in db.execute(_READ, (rows,)):
        turns, firsts, counts, sizes = _decode(entries)
        for index, start in _places(turns, sizes, n):
            first = firsts[index]
            yield LogEntry(epoch, first, first + counts[index] - 1, payloads[start : start + sizes[index]])


def _places(turns: list[int], sizes: list[int], n: int) -> Iterator[tuple[int, int]]:
    """Yield where the entries of the turn in row `n` are: their indexes, and the positions of their payloads."""
    index = -1
    for _ in range(turns.count(n)):
        index = turns.index(n, index + 1)
        yield index, sum(sizes[:index])


def _overwrite(db: sqlite3.Connection, row: int, n: int) -> None:
    """Overwrite the payloads of the turn in row `n` of the turns with zeros."""
    found = db.execute("SELECT entries FROM flushes WHERE n = ?", (row,)).fetchone()
    if found is None:
        return
    turns, *_, sizes = _decode(found[0])
    with db.blobopen("flushes", "payloads", row) as blob:
        for index, start in _places(turns, sizes, n):
            blob.seek(start)
            blob.write(bytes(sizes[index]))


def _delete(db: sqlite3.Connection, row: int, turns: set[int]) -> None:
    """Delete the entries of these turns, and the row if it has no others."""
    found = db.execute("SELECT entries, payloads FROM flushes WHERE n = ?", (row,)).fetchone()
    if found is None:
        return
    lists, payloads = _decode(found[0]), found[1]
    if turns.isdisjoint(lists[0]):
        return
    starts = accumulate(lists[3], initial=0)
    left = [(entry, start) for *entry, start in zip(*lists, starts, strict=False) if entry[0] not in turns]
    if not left:
        db.execute("DELETE FROM flushes WHERE n = ?", (row,))
        return
    joined = b"".join([payloads[start : start + entry[3]] for entry, start in left])
    entries = list(zip(*[entry for entry, _ in left], strict=True))
    db.execute("UPDATE flushes SET entries = ?, payloads = ? WHERE n = ?", (_encode(entries), joined, row))


def _tail_in_log(db: sqlite3.Connection, n: int) -> _Tail:
    """Return the end that the table `log` has of the turn in row `n`; -1 if it doesn't run, so that nothing follows."""
    row = db.execute(
        "SELECT log.epoch, log_tails.last FROM turns JOIN log_tails ON log_tails.turn = turns.n"
        " JOIN log ON log.n = log_tails.entry WHERE turns.n = ? AND stored_ms IS NULL",
        (n,),
    ).fetchone()
    epoch, end = row or (0, -1)
    return _Tail(n, ("", ""), epoch, end)
