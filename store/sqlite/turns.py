"""The rows of turns in the SQLite store: queries, and conversion to records."""

from __future__ import annotations

import json
import sqlite3
import time

from store.errors import NotFound
from store.records import TurnRecord

TURN_ID_TTL_MS = 24 * 3600 * 1000
_LOG_END = "coalesce(seq, newest_seq(turns.n), (SELECT last FROM log_tails WHERE log_tails.turn = turns.n), 0) AS seq"
"""The last seq of the turn's log, even if the log has expired; 0 if nothing was written."""
_CONVERSATION = "(SELECT id FROM conversations WHERE key = turns.conversation) AS conversation"
_EXPRESSIONS = {"conversation": _CONVERSATION, "seq": _LOG_END}
_RECORD = ", ".join(_EXPRESSIONS.get(name, name) for name in TurnRecord.__struct_fields__ if name != "request")


def clock_ms() -> int:
    """Return the time in ms since 1970 by this store's clock, which decides when data expires."""
    return time.time_ns() // 1_000_000


def find_row(db: sqlite3.Connection, user: str, turn: str) -> sqlite3.Row | None:
    """Return the columns of a turn's row that decisions need, or None if it doesn't exist or ended over 24 h ago.

    `conversation` is the key of its conversation, not the id.
    """
    return _select(db, f"n, conversation, epoch, owner, revision, stored_ms, cancel, {_LOG_END}", user, turn)


def get_row(db: sqlite3.Connection, user: str, turn: str) -> sqlite3.Row:
    """Return the row as `find_row` does. Raises `NotFound`."""
    row = find_row(db, user, turn)
    if row is None:
        raise NotFound("turn")
    return row


def _select(db: sqlite3.Connection, columns: str, user: str, turn: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(
        f"SELECT {columns} FROM turns WHERE user = ? AND turn = ? AND (stored_ms IS NULL OR stored_ms > ?)",
        (user, turn, clock_ms() - TURN_ID_TTL_MS),
    ).fetchone()
    return row


def running_in_conversation(db: sqlite3.Connection, user: str, key: str) -> list[sqlite3.Row]:
    """Return the rows of the turns in the conversation with this key that have no ending, oldest first.

    Their columns are `turn`, `message`, and `moves_head`: whether the turn's ending will move the head.
    """
    return db.execute(
        "SELECT turn, message, revision > (SELECT cleared_revision FROM conversations WHERE key = ?2) AS moves_head"
        " FROM turns INDEXED BY turns_running WHERE user = ?1 AND conversation = ?2 AND stored_ms IS NULL ORDER BY n",
        (user, key),
    ).fetchall()


def running_of_user(db: sqlite3.Connection, user: str) -> list[str]:
    """Return the ids of all the user's turns that have no ending, oldest first."""
    rows = db.execute(
        "SELECT turn FROM turns INDEXED BY turns_running WHERE user = ? AND stored_ms IS NULL ORDER BY n", (user,)
    ).fetchall()
    return [row["turn"] for row in rows]


def are_running(db: sqlite3.Connection, user: str, turns: list[str]) -> list[bool | None]:
    """Return for each of `turns`, in order, whether it still runs; None if it doesn't exist."""
    rows = db.execute(
        "SELECT turn, stored_ms IS NULL AS runs FROM turns WHERE user = ?1 AND (stored_ms IS NULL OR stored_ms > ?3)"
        " AND turn IN (SELECT value FROM json_each(?2))",
        (user, json.dumps(turns), clock_ms() - TURN_ID_TTL_MS),
    ).fetchall()
    found = {row["turn"]: bool(row["runs"]) for row in rows}
    return [found.get(turn) for turn in turns]


def find_record(db: sqlite3.Connection, user: str, turn: str, *, with_request: bool = False) -> TurnRecord | None:
    """Return the turn, or None if it doesn't exist or ended more than 24 h ago.

    Its request, up to 20 MiB, is read only if `with_request` is true.
    """
    row = _select(db, f"{_RECORD}, {'request' if with_request else 'NULL AS request'}", user, turn)
    return None if row is None else TurnRecord(**dict(row))


def get_record(db: sqlite3.Connection, user: str, turn: str, *, with_request: bool = False) -> TurnRecord:
    """Return the turn, with its request only if `with_request` is true. Raises `NotFound`."""
    record = find_record(db, user, turn, with_request=with_request)
    if record is None:
        raise NotFound("turn")
    return record
