"""The checkpoints of the journal: a long one is copied into the database file."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

CHECKPOINT_BYTES = 4 * 2**20
"""A longer journal is copied into the database file (a checkpoint)."""
JOURNAL_BYTES_MAX = 64 * 2**20
"""The length above which a call waits for the checkpoint, because the other thread can't keep up."""


class Checkpointer:
    """Copies a long journal into its file, in a separate thread, on a `connection` of its own."""

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self._journal = f"{path}-wal"
        self._connection = connection
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="turnwire-journal")
        self._is_busy = False

    def checkpoint_if_long(self) -> None:
        """Start a checkpoint if the journal is long and none runs. Wait for one if it is far too long."""
        size = os.stat(self._journal).st_size
        if size > JOURNAL_BYTES_MAX:
            # The store's thread, which waits here, writes nothing meanwhile. So the whole journal is copied, and the next
            # write truncates it.
            self._thread.submit(self._checkpoint).result()
        elif size > CHECKPOINT_BYTES and not self._is_busy:
            self._is_busy = True
            self._thread.submit(self._checkpoint)

    def truncate(self) -> bool:
        """Copy the whole journal into the file, and empty it. Return False if a reader prevents it."""
        return self._thread.submit(self._truncate).result()

    def _truncate(self) -> bool:
        busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def close(self) -> None:
        """Close the connection after the running checkpoint is done."""
        self._thread.shutdown()
        self._connection.close()

    def _checkpoint(self) -> None:
        # An error loses nothing, because the journal is complete. The next call that writes reports a failing disk.
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._is_busy = False
