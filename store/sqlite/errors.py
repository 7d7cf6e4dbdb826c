"""The errors of SQLite in words: what one means for the store's file, and what to do about it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from store.errors import StoreError
from store.sqlite.file_security import USE_ANOTHER_FILE

ERROR_TEXTS = {
    sqlite3.SQLITE_BUSY: f"is in use by another process. Stop that process, or {USE_ANOTHER_FILE}.",
    sqlite3.SQLITE_CANTOPEN: "can't be opened. Check that its folder exists and is writable.",
    sqlite3.SQLITE_NOTADB: f"isn't a SQLite database. Check the name, or {USE_ANOTHER_FILE}.",
    sqlite3.SQLITE_READONLY: f"can't be written. Change its permissions, or {USE_ANOTHER_FILE}.",
    sqlite3.SQLITE_FULL: "can't grow, because its disk is full. Free some space, then try again: nothing was stored.",
    sqlite3.SQLITE_IOERR: "can't be read or written, because its disk fails. Check the disk, or restore a copy.",
    sqlite3.SQLITE_CORRUPT: f"is damaged. Restore a copy, or {USE_ANOTHER_FILE}.",
}


@contextmanager
def translated_errors(path: str) -> Iterator[None]:
    """Turn an error of SQLite in the block into a `StoreError` that says what is wrong with the file and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(_error_text(path, error)) from error


def _error_text(path: str, error: sqlite3.Error) -> str:
    """Return what SQLite's error means for this file, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_IOERR and not os.access(
        path, os.W_OK, effective_ids=os.access in os.supports_effective_ids
    ):
        code = sqlite3.SQLITE_READONLY  # for a read-only file system SQLite says only that writing failed
    if "no such module: fts5" in str(error):
        return f"{path} can't be used, because this SQLite has no full-text search. Use a SQLite with FTS5."
    meaning = ERROR_TEXTS.get(code)
    return (
        f"{path} can't be used: {error}. Repair it, or {USE_ANOTHER_FILE}." if meaning is None else f"{path} {meaning}"
    )
