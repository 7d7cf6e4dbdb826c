"""The embedded store's rows of turns: how they are found, and the records that they are."""

from __future__ import annotations

import json
import sqlite3
import time

from store.records import ConversationRecord, NotFound, TurnRecord

TURN_ID_TTL_MS = 24 * 3600 * 1000
_RECORD = (
    "n, user, turn, conversation, digest, epoch, owner, status, message, input, parent, model, seq, accepted_ms, ending,"
    " stateless_message, cancel"
)


def clock_ms() -> int:
    """This store's clock, by which it forgets: ms since 1970."""
    return time.time_ns() // 1_000_000


def find(db: sqlite3.Connection, user: str, turn: str) -> sqlite3.Row | None:
    """What a decision about the turn needs of its row, unless it ended more than 24 h ago."""
    return _select(db, "n, conversation, epoch, owner, seq, revision, stored_ms, cancel", user, turn)


def require(db: sqlite3.Connection, user: str, turn: str) -> sqlite3.Row:
    """As `find`. Raises `NotFound`."""
    row = find(db, user, turn)
    if row is None:
        raise NotFound("turn")
    return row


def _select(db: sqlite3.Connection, columns: str, user: str, turn: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(
        f"SELECT {columns} FROM turns WHERE user = ? AND turn = ? AND (stored_ms IS NULL OR stored_ms > ?)",
        (user, turn, clock_ms() - TURN_ID_TTL_MS),
    ).fetchone()
    return row


def running_in(db: sqlite3.Connection, conversation: ConversationRecord) -> list[sqlite3.Row]:
    """Its turns without an ending, oldest first: `turn`, `message`, and whether it `moves_head`."""
    return db.execute(
        "SELECT turn, message, revision > (SELECT cleared_revision FROM conversations WHERE id = ?2) AS moves_head"
        " FROM turns INDEXED BY turns_running WHERE user = ?1 AND conversation = ?2 AND stored_ms IS NULL ORDER BY n",
        (conversation.user, conversation.id),
    ).fetchall()


def running_of(db: sqlite3.Connection, user: str) -> list[str]:
    """The ids of all the user's turns without an ending, oldest first."""
    rows = db.execute(
        "SELECT turn FROM turns INDEXED BY turns_running WHERE user = ? AND stored_ms IS NULL ORDER BY n", (user,)
    ).fetchall()
    return [row["turn"] for row in rows]


def running_among(db: sqlite3.Connection, user: str, turns: list[str]) -> list[bool | None]:
    """Whether each of the turns still runs; None where it isn't kept."""
    rows = db.execute(
        "SELECT turn, stored_ms IS NULL AS runs FROM turns WHERE user = ?1 AND (stored_ms IS NULL OR stored_ms > ?3)"
        " AND turn IN (SELECT value FROM json_each(?2))",
        (user, json.dumps(turns), clock_ms() - TURN_ID_TTL_MS),
    ).fetchall()
    found = {row["turn"]: bool(row["runs"]) for row in rows}
    return [found.get(turn) for turn in turns]


def log_end(db: sqlite3.Connection, row: sqlite3.Row) -> int:
    """The last seq that the turn's log has, or had before it expired; 0 where nothing was written."""
    if row["seq"] is not None:
        return int(row["seq"])
    last = db.execute("SELECT last FROM log_tails WHERE turn = ?", (row["n"],)).fetchone()
    return 0 if last is None else int(last["last"])


def find_record(db: sqlite3.Connection, user: str, turn: str, *, with_request: bool = False) -> TurnRecord | None:
    """Return the turn, unless it ended more than 24 h ago. Its request, up to 20 MiB, is read only `with_request`."""
    row = _select(db, _RECORD + (", request" if with_request else ""), user, turn)
    if row is None:
        return None
    return TurnRecord(
        user=row["user"],
        turn=row["turn"],
        conversation=row["conversation"],
        digest=row["digest"],
        request=row["request"] if with_request else None,
        epoch=row["epoch"],
        owner=row["owner"],
        status=row["status"],
        message=row["message"],
        input=row["input"],
        parent=row["parent"],
        model=row["model"],
        seq=log_end(db, row),
        accepted_ms=row["accepted_ms"],
        ending=row["ending"],
        stateless_message=row["stateless_message"],
        cancel=row["cancel"],
    )


def read_record(db: sqlite3.Connection, user: str, turn: str, *, with_request: bool = False) -> TurnRecord:
    """As `find_record`. Raises `NotFound`."""
    found = find_record(db, user, turn, with_request=with_request)
    if found is None:
        raise NotFound("turn")
    return found
