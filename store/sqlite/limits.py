"""The limits of a user in the SQLite store, checked in the transaction that adds a turn, a conversation or text.

`running_groups` finds the turns that count against the limit on running turns.
"""

from __future__ import annotations

import sqlite3
import time

from store.errors import Limited
from store.records import DAY_MS, NewTurn, RunningGroups, TurnLimits


def check_limits(db: sqlite3.Connection, new: NewTurn) -> None:
    """Check the limits of a new turn, then count its start. Raises `Limited`."""
    limits = new.limits
    if limits is None:
        return
    if limits.live or limits.live_bytes:
        live, live_bytes = db.execute(
            "SELECT count(*), total(length(request)) FROM turns INDEXED BY turns_running"
            " WHERE user = ? AND stored_ms IS NULL",
            (new.user,),
        ).fetchone()
        if 0 < limits.live <= live:
            raise Limited("live")
        if 0 < limits.live_bytes < live_bytes + len(new.request):
            raise Limited("live_bytes")
    if not new.stateless:
        added_bytes = 0 if new.input is None else len(new.input.body)
        check_storage(db, new.user, limits, added_bytes, adds_conversation=creates_conversation(db, new))
    if limits.tokens_per_day or limits.cost_nano_per_day:
        since_midnight_ms = new.now_ms % DAY_MS
        tokens, cost_nano = db.execute(
            "SELECT total(input_tokens + output_tokens), total(cost_nano) FROM turns WHERE user = ? AND ended_ms >= ?",
            (new.user, new.now_ms - since_midnight_ms),
        ).fetchone()
        if 0 < limits.tokens_per_day <= tokens:
            raise Limited("tokens_per_day", DAY_MS - since_midnight_ms)
        if 0 < limits.cost_nano_per_day <= cost_nano:
            raise Limited("cost_per_day", DAY_MS - since_midnight_ms)
    if limits.conversation_tokens:
        used = db.execute(
            "SELECT input_tokens + output_tokens FROM conversations WHERE id = ? AND user = ?",
            (new.conversation, new.user),
        ).fetchone()
        if used is not None and used[0] >= limits.conversation_tokens:
            raise Limited("conversation_tokens")
    if limits.start_interval_us:
        _count_start(db, new.user, limits.start_interval_us, limits.start_burst)


def creates_conversation(db: sqlite3.Connection, new: NewTurn) -> bool:
    """Return whether the turn's conversation has to be created."""
    return new.new_conversation is not None and not has_conversation(db, new.user, new.new_conversation.id)


def has_conversation(db: sqlite3.Connection, user: str, conversation: str) -> bool:
    """Return whether the user has a conversation with this id."""
    found = db.execute("SELECT 1 FROM conversations WHERE user = ? AND id = ?", (user, conversation)).fetchone()
    return found is not None


def check_storage(
    db: sqlite3.Connection, user: str, limits: TurnLimits, added_bytes: int, *, adds_conversation: bool
) -> None:
    """Raise `Limited` if the user may not store `added_bytes` more bytes.

    With `adds_conversation`, raise it too if the user may not have one more conversation.
    """
    if not limits.conversations and not limits.stored_bytes:
        return
    row = db.execute("SELECT conversations, bytes FROM stored WHERE user = ?", (user,)).fetchone()
    conversations, stored_bytes = row or (0, 0)
    if adds_conversation and 0 < limits.conversations <= conversations:
        raise Limited("conversations")
    if 0 < limits.stored_bytes < stored_bytes + added_bytes:
        raise Limited("stored_bytes")


def _count_start(db: sqlite3.Connection, user: str, interval_us: int, burst: int) -> None:
    now_us = time.time_ns() // 1000
    row = db.execute("SELECT due_us FROM starts WHERE user = ?", (user,)).fetchone()
    due_us = now_us if row is None else max(int(row["due_us"]), now_us)
    wait_us = due_us - now_us - (burst - 1) * interval_us
    if wait_us > 0:
        raise Limited("starts", -(-wait_us // 1000))
    db.execute("DELETE FROM starts WHERE due_us <= ?", (now_us,))
    db.execute("INSERT OR REPLACE INTO starts (user, due_us) VALUES (?, ?)", (user, due_us + interval_us))


def running_groups(db: sqlite3.Connection, user: str, turn: str, running_max: int) -> RunningGroups:
    """See `TurnStore.running_groups`."""
    if not running_max:
        return ()
    groups: list[list[str]] = []
    group_of: dict[str, list[str]] = {}
    rows = db.execute(
        "SELECT turn, conversation, n IN (SELECT turn FROM queues) AS queues FROM turns INDEXED BY turns_running"
        " WHERE user = ? AND stored_ms IS NULL ORDER BY n",
        (user,),
    )
    for row in rows:
        if row["turn"] == turn:
            break
        group = group_of.get(row["conversation"]) if row["queues"] else None
        if group is None:
            group = []
            groups.append(group)
        group.append(row["turn"])
        if row["conversation"] is not None:
            group_of[row["conversation"]] = group
    return tuple(map(tuple, groups)) if len(groups) >= running_max else ()
