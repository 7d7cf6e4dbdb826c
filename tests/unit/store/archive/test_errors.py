"""What an error of a database means: an operator has to change something, or it passes by itself."""

from __future__ import annotations

import socket
import sqlite3
import ssl

import pytest
from asyncpg import exceptions as pg  # type: ignore[import-untyped]

from store.archive.api import ArchiveUnfit
from store.archive.errors import archive_error


def _of_sqlite(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("x")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (pg.InvalidPasswordError("x"), "refuses the password"),
        (pg.InvalidCatalogNameError("x"), "no such database"),
        (pg.ReadOnlySQLTransactionError("x"), "read-only"),
        (pg.InsufficientPrivilegeError("x"), "GRANT it the rights"),
        (pg.ProtocolViolationError("unsupported startup parameter: jit"), "ignore_startup_parameters"),
        (pg.InvalidSQLStatementNameError("x"), "pool_mode = session"),
        (pg.DuplicatePreparedStatementError("x"), "pool_mode = session"),
        (pg.ClientConfigurationError("x"), "isn't valid"),
        (ssl.SSLCertVerificationError("x"), "certificate"),
        (ConnectionError("the server refused SSL"), "has no TLS"),
        (_of_sqlite(sqlite3.SQLITE_NOTADB), "isn't a SQLite database"),
        (_of_sqlite(sqlite3.SQLITE_READONLY), "can't be written"),
    ],
)
def test_an_operator_has_to_change_something(error: Exception, said: str) -> None:
    """A start is refused. An archive that has such an error later is left alone until an operator has changed it."""
    found = archive_error(error)
    assert isinstance(found, ArchiveUnfit)
    assert said in str(found)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError("x"), "can't be reached"),
        (TimeoutError("x"), "doesn't answer in time"),
        (socket.gaierror("x"), "host is unknown"),
        (FileNotFoundError("x"), "can't be read"),
        (pg.CannotConnectNowError("the database system is starting up"), "was lost"),
        (pg.TooManyConnectionsError("x"), "no more connections"),
        (pg.DiskFullError("x"), "disk of the archive is full"),
        (pg.ProtocolViolationError("server login has been failing, try again later"), "was lost"),
        (_of_sqlite(sqlite3.SQLITE_BUSY), "in use by another process"),
        (_of_sqlite(sqlite3.SQLITE_FULL), "disk of the archive's file is full"),
    ],
)
def test_what_passes_by_itself(error: Exception, said: str) -> None:
    """An instance starts all the same, and tries again."""
    found = archive_error(error)
    assert not isinstance(found, ArchiveUnfit)
    assert said in str(found)
