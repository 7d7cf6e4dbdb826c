"""The meanings of a database's errors: it refuses some content, or an operator has to do something.

No text here shows the URL, a password or what was stored. A driver's own text may, so it is never shown.
"""

from __future__ import annotations

import socket
import sqlite3
import ssl
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from store.archive.api import ArchiveError, ArchiveUnfit

RETRIED = frozenset({"40001", "40P01"})
"""A serialization failure and a deadlock: the same transaction may succeed when it is repeated."""
_CONTENT_CLASSES = ("22", "23", "54")
"""Data exception, integrity constraint violation, program limit exceeded."""
_LOST = "The connection to the archive was lost. Check that the database runs and can be reached; then repeat the call."
_STATES = {
    "28P01": "The archive refuses the password. Correct the password in TURNWIRE_ARCHIVE.",
    "28000": "The archive refuses the user, or connections without TLS. Correct TURNWIRE_ARCHIVE, or the server's pg_hba.conf.",
    "3D000": "The archive's server has no such database. Create it, or correct its name in TURNWIRE_ARCHIVE.",
    "42501": "The archive's user may not do that. Make the user the owner of the database's tables, or GRANT it the rights.",
    "25006": "The archive is read-only, as a replica is. Set TURNWIRE_ARCHIVE to the primary server.",
    "53100": "The disk of the archive is full. Free some space; what is pending is written then.",
    "53200": "The archive has no memory left. Give the database more memory.",
    "53300": "The archive accepts no more connections. Raise max_connections of the database, or run fewer instances.",
    "57014": "The archive took too long, and the call was given up. Check the load of the database.",
    "55P03": "Another user of the database has locked the archive's tables. Repeat the call when they are unlocked.",
    "42704": "The archive's server doesn't know a parameter of the URL in TURNWIRE_ARCHIVE. Correct what is after the `?`.",
    "42P01": "The archive's tables are missing. Run turnwire archive upgrade.",
    "42703": "The archive's tables have an older form. Run turnwire archive upgrade.",
    **dict.fromkeys(
        ("26000", "42P05"),
        "The archive is behind a pooler that lends connections for single transactions. Set pool_mode = session in PgBouncer.",
    ),
    "3F000": "The archive has no schema to create tables in. Create it, or set search_path in TURNWIRE_ARCHIVE.",
}
_UNFIT_STATES = frozenset(
    {*("28P01", "28000", "3D000", "42501", "25006", "42704", "42P01", "42703", "3F000"), *("26000", "42P05")}
)
_POOLER = (
    "A pooler before the archive refuses the settings of a connection. In PgBouncer, set ignore_startup_parameters = "
    "statement_timeout,idle_in_transaction_session_timeout,jit and pool_mode = session."
)
_LOST_CLASSES = ("08", "57P")
_SQLITE = {
    sqlite3.SQLITE_BUSY: "The archive's file has been in use by another process for too long. Stop that process.",
    sqlite3.SQLITE_CANTOPEN: "The archive's file can't be opened. Check that its folder exists and is writable.",
    sqlite3.SQLITE_NOTADB: "The archive's file isn't a SQLite database. Correct its name in TURNWIRE_ARCHIVE.",
    sqlite3.SQLITE_READONLY: "The archive's file can't be written. Change its permissions.",
    sqlite3.SQLITE_FULL: "The disk of the archive's file is full. Free some space; what is pending is written then.",
    sqlite3.SQLITE_IOERR: "The archive's file can't be read or written, because its disk fails. Check the disk.",
    sqlite3.SQLITE_CORRUPT: "The archive's file is damaged. Restore a copy.",
}
_UNFIT_SQLITE = frozenset(
    {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT}
)


def refusal_of(error: BaseException) -> str | None:
    """Return the reason why the database refuses what it was given, or None if the error isn't about the content."""
    for each in _causes(error):
        state = getattr(each, "sqlstate", None)
        if isinstance(state, str):
            return f"the database refuses it (SQLSTATE {state})" if state.startswith(_CONTENT_CLASSES) else None
        if isinstance(each, sqlite3.IntegrityError | sqlite3.DataError | OverflowError | UnicodeError):
            return f"the database refuses it ({type(each).__name__})"
        if isinstance(each, ValueError) and type(each).__name__ == "DataError":
            return "the database's driver refuses it"
    return None


def is_retried(error: BaseException) -> bool:
    """Return whether the same transaction may succeed at once when it is repeated, on a new connection if necessary."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return any(getattr(each, "sqlstate", None) in RETRIED for each in _causes(error))


def is_of_driver(error: BaseException) -> bool:
    """Return whether a driver has raised the error itself, for example because the URL is wrong."""
    return type(error).__module__.partition(".")[0] in {"asyncpg", "sqlite3"}


def archive_error(error: BaseException) -> ArchiveError:
    """Return the `ArchiveError` for an error of the database or its driver. Its text says what to do."""
    return (ArchiveUnfit if _is_unfit(error) else ArchiveError)(_sentence(error))


def _is_unfit(error: BaseException) -> bool:
    """Return whether the database answers but can't be used until an operator has changed something."""
    for each in _causes(error):
        state = getattr(each, "sqlstate", None)
        if isinstance(state, str):
            return state in _UNFIT_STATES or _is_of_pooler(each)
        if isinstance(each, sqlite3.Error):
            code = getattr(each, "sqlite_errorcode", 0) & 0xFF
            return code in _UNFIT_SQLITE or _sentence_of_sqlite(each) == _STATES["42P01"]
        if _is_of_url(each) or isinstance(each, ssl.SSLError | PermissionError):
            return True
        if isinstance(each, OSError):
            return _has_no_tls(each)
    return False


def _is_of_url(error: BaseException) -> bool:
    return type(error).__name__ == "ClientConfigurationError" or type(error) is ValueError


def _is_of_pooler(error: BaseException) -> bool:
    """Return whether PgBouncer refuses a setting. The SQLSTATE alone doesn't tell: it is the same if the server is away."""
    return getattr(error, "sqlstate", None) == "08P01" and "startup parameter" in str(error)


def _has_no_tls(error: OSError) -> bool:
    return isinstance(error, ConnectionError) and "SSL" in str(error)


def _sentence(error: BaseException) -> str:
    for each in _causes(error):
        state = getattr(each, "sqlstate", None)
        if isinstance(state, str):
            return _POOLER if _is_of_pooler(each) else _sentence_of_state(state)
        if isinstance(each, sqlite3.Error):
            return _sentence_of_sqlite(each)
        if _is_of_url(each):
            return (
                "The URL in TURNWIRE_ARCHIVE isn't valid. Check its port, sslmode and other parameters, and percent-encode"
                " each @, /, ?, # and : in the password."
            )
        if isinstance(each, PoolTimeout):
            return "All connections to the archive are busy. Check the load of the database."
        if isinstance(each, OSError):
            return _sentence_of_network(each)
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return _LOST
    return f"The archive's database failed ({type(error).__name__}). Check its log."


def _sentence_of_network(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (
            "The archive's TLS certificate isn't accepted. Correct sslmode or sslrootcert in TURNWIRE_ARCHIVE, or the"
            " server's certificate."
        )
    if _has_no_tls(error):
        return "The archive's server has no TLS. Turn it on there, or set another sslmode in TURNWIRE_ARCHIVE."
    if isinstance(error, socket.gaierror):
        return "The archive's host is unknown. Correct its name in TURNWIRE_ARCHIVE, or the DNS."
    if isinstance(error, TimeoutError):
        return "The archive doesn't answer in time. Check that the database runs, can be reached and isn't overloaded."
    if isinstance(error, FileNotFoundError | PermissionError):
        return (
            "A file that TURNWIRE_ARCHIVE names can't be read: a certificate, or the server's socket. Check its path."
        )
    return "The archive can't be reached. Check that the database runs, and the host and port in TURNWIRE_ARCHIVE."


def _sentence_of_state(state: str) -> str:
    if state in _STATES:
        return _STATES[state]
    if state.startswith(_LOST_CLASSES):
        return _LOST
    return f"The archive's database failed (SQLSTATE {state}). Check its log."


def _sentence_of_sqlite(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _SQLITE:
        return _SQLITE[code]
    if "no such table" in str(error) or "no such column" in str(error):
        return _STATES["42P01"]
    return f"The archive's file can't be used now ({type(error).__name__}). Check the file."


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, and those that it wraps or that caused it, each once."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        pending += [getattr(each, "orig", None), each.__cause__]
        if isinstance(each, DBAPIError) or type(each).__module__.startswith("sqlalchemy"):
            pending.append(each.__context__)
