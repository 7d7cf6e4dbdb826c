"""Ownership of turns in the SQLite store: leases, takeover, and cancel requests."""

from __future__ import annotations

import sqlite3
import time

import msgspec

from store.api import instance_channel
from store.local_pubsub import Publication
from store.records import Lease, TurnRecord
from store.sqlite.database import SqlitePart
from store.sqlite.turns import find_row, get_record, get_row

EXPIRED_MAX = 100


class SqliteLeases(SqlitePart):
    """`OwnershipStore` in the SQLite store.

    A turn without a lease was released, or belonged to an earlier process, which is dead: any owner may claim it.
    """

    async def renew(self, owner: str, turns: list[tuple[str, str, int]], lease_ms: int) -> list[Lease]:
        """See `OwnershipStore`."""
        return await self._db.run(_renew, owner, turns, lease_ms)

    async def release(self, user: str, turn: str, epoch: int) -> None:
        """See `OwnershipStore`."""
        await self._db.run(_release, user, turn, epoch)

    async def expired_leases(self) -> list[tuple[str, str]]:
        """See `OwnershipStore`."""
        return await self._db.run(_expired_leases)

    async def claim(
        self, user: str, turn: str, owner: str, epoch: int, lease_ms: int, *, force: bool = False
    ) -> TurnRecord | None:
        """See `OwnershipStore`."""
        return await self._db.run(_claim, user, turn, owner, epoch, lease_ms, force)

    async def request_cancel(self, user: str, turn: str, cancel: bytes) -> bool:
        """See `OwnershipStore`."""
        return await self._db.run_then(self._publish, _request_cancel, user, turn, cancel)


def put_lease(db: sqlite3.Connection, n: int, lease_ms: int) -> None:
    """Create or renew the lease of the turn in row `n`, for `lease_ms` from now."""
    db.execute("INSERT OR REPLACE INTO leases (turn, until_s) VALUES (?, ?)", (n, time.monotonic() + lease_ms / 1000))


def delete_lease(db: sqlite3.Connection, n: int) -> None:
    """Delete the lease of the turn in row `n`."""
    db.execute("DELETE FROM leases WHERE turn = ?", (n,))


def _renew(db: sqlite3.Connection, owner: str, turns: list[tuple[str, str, int]], lease_ms: int) -> list[Lease]:
    renewed = []
    for user, turn, epoch in turns:
        row = find_row(db, user, turn)
        if row is None:
            renewed.append(Lease(held=True, missing=True))
        elif row["stored_ms"] is not None or (row["owner"], row["epoch"]) != (owner, epoch):
            renewed.append(Lease(held=False))
        else:
            put_lease(db, row["n"], lease_ms)
            renewed.append(Lease(held=True, cancel=row["cancel"]))
    return renewed


def _release(db: sqlite3.Connection, user: str, turn: str, epoch: int) -> None:
    row = find_row(db, user, turn)
    if row is not None and row["epoch"] == epoch:
        delete_lease(db, row["n"])


def _expired_leases(db: sqlite3.Connection) -> list[tuple[str, str]]:
    rows = db.execute(
        "SELECT user, turns.turn FROM turns INDEXED BY turns_running LEFT JOIN leases ON leases.turn = turns.n"
        " WHERE stored_ms IS NULL AND (until_s IS NULL OR until_s <= ?) ORDER BY turns.n LIMIT ?",
        (time.monotonic(), EXPIRED_MAX),
    ).fetchall()
    return [(row["user"], row["turn"]) for row in rows]


def _claim(
    db: sqlite3.Connection, user: str, turn: str, owner: str, epoch: int, lease_ms: int, force: bool
) -> TurnRecord | None:
    row = get_row(db, user, turn)
    if row["stored_ms"] is not None:
        return None
    held = "SELECT 1 FROM leases WHERE turn = ? AND until_s > ?"
    if not force and db.execute(held, (row["n"], time.monotonic())).fetchone() is not None:
        return None
    db.execute("UPDATE turns SET owner = ?, epoch = max(?, epoch + 1) WHERE n = ?", (owner, epoch, row["n"]))
    put_lease(db, row["n"], lease_ms)
    return get_record(db, user, turn, with_request=True)


def _request_cancel(db: sqlite3.Connection, user: str, turn: str, cancel: bytes) -> tuple[bool, list[Publication]]:
    row = get_row(db, user, turn)
    if row["stored_ms"] is not None:
        return False, []
    db.execute("UPDATE turns SET cancel = ? WHERE n = ? AND cancel IS NULL", (cancel, row["n"]))
    # Publish every cancel request: an earlier publication may have been lost, and a second one is harmless.
    return True, [(instance_channel(row["owner"]), msgspec.msgpack.encode((user, turn)))]
