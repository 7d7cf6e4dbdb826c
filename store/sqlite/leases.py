"""Ownership of turns in the embedded store: leases, takeover, and cancel requests."""

from __future__ import annotations

import sqlite3
import time

import msgspec

from store.api import instance_channel
from store.local_pubsub import LocalPubSub, Signal
from store.records import Lease, TurnRecord
from store.sqlite.database import Database
from store.sqlite.turns import find, read_record, require

TAKEABLE_MAX = 100


class SqliteLeases(LocalPubSub):
    """The ownership of `Store`.

    A turn without a lease was released, or belonged to an earlier process, which is dead: any owner may take it.
    """

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._db = database

    async def renew(self, owner: str, turns: list[tuple[str, str, int]], lease_ms: int) -> list[Lease]:
        """See `Store`."""
        return await self._db.run(_renew, owner, turns, lease_ms)

    async def release(self, user: str, turn: str, epoch: int) -> None:
        """See `Store`."""
        await self._db.run(_release, user, turn, epoch)

    async def expired_leases(self) -> list[tuple[str, str]]:
        """See `Store`."""
        return await self._db.run(_takeable)

    async def claim(
        self, user: str, turn: str, owner: str, epoch: int, lease_ms: int, *, force: bool = False
    ) -> TurnRecord | None:
        """See `Store`."""
        return await self._db.run(_take, user, turn, owner, epoch, lease_ms, force)

    async def request_cancel(self, user: str, turn: str, cancel: bytes) -> bool:
        """See `Store`."""
        return await self._db.run_then(self._publish, _request_cancel, user, turn, cancel)


def lease(db: sqlite3.Connection, n: int, lease_ms: int) -> None:
    """Create or renew the lease of the turn in row `n`, for `lease_ms` from now."""
    db.execute("INSERT OR REPLACE INTO leases (turn, until_s) VALUES (?, ?)", (n, time.monotonic() + lease_ms / 1000))


def drop_lease(db: sqlite3.Connection, n: int) -> None:
    """Delete the lease of the turn in row `n`."""
    db.execute("DELETE FROM leases WHERE turn = ?", (n,))


def _renew(db: sqlite3.Connection, owner: str, turns: list[tuple[str, str, int]], lease_ms: int) -> list[Lease]:
    renewed = []
    for user, turn, epoch in turns:
        row = find(db, user, turn)
        if row is None:
            renewed.append(Lease(held=True, missing=True))
            continue
        if row["stored_ms"] is not None or (row["owner"], row["epoch"]) != (owner, epoch):
            renewed.append(Lease(held=False))
            continue
        lease(db, row["n"], lease_ms)
        renewed.append(Lease(held=True, cancel=row["cancel"]))
    return renewed


def _release(db: sqlite3.Connection, user: str, turn: str, epoch: int) -> None:
    row = find(db, user, turn)
    if row is not None and row["epoch"] == epoch:
        drop_lease(db, row["n"])


def _takeable(db: sqlite3.Connection) -> list[tuple[str, str]]:
    rows = db.execute(
        "SELECT user, turns.turn FROM turns INDEXED BY turns_running LEFT JOIN leases ON leases.turn = turns.n"
        " WHERE stored_ms IS NULL AND (until_s IS NULL OR until_s <= ?) ORDER BY turns.n LIMIT ?",
        (time.monotonic(), TAKEABLE_MAX),
    ).fetchall()
    return [(row["user"], row["turn"]) for row in rows]


def _take(
    db: sqlite3.Connection, user: str, turn: str, owner: str, epoch: int, lease_ms: int, force: bool
) -> TurnRecord | None:
    row = require(db, user, turn)
    if row["stored_ms"] is not None:
        return None
    if not force:
        held = db.execute(
            "SELECT 1 FROM leases WHERE turn = ? AND until_s > ?", (row["n"], time.monotonic())
        ).fetchone()
        if held is not None:
            return None
    db.execute(
        "UPDATE turns SET owner = ?, epoch = max(?, epoch + 1) WHERE n = ?",
        (owner, epoch, row["n"]),
    )
    lease(db, row["n"], lease_ms)
    return read_record(db, user, turn, with_request=True)


def _request_cancel(db: sqlite3.Connection, user: str, turn: str, cancel: bytes) -> tuple[bool, list[Signal]]:
    row = require(db, user, turn)
    if row["stored_ms"] is not None:
        return False, []
    db.execute("UPDATE turns SET cancel = ? WHERE n = ? AND cancel IS NULL", (cancel, row["n"]))
    # Signal every cancel request: an earlier signal may have been lost, and a second one is harmless.
    return True, [(instance_channel(row["owner"]), msgspec.msgpack.encode((user, turn)))]
