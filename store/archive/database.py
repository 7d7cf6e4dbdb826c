"""The connections to an archive's database: PostgreSQL by asyncpg, or a SQLite file by aiosqlite.

Each call has a deadline. A call that fails because its connection was lost, or because of a deadlock, is repeated once.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

from sqlalchemy import URL, Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from store.archive.api import ArchiveError
from store.archive.errors import archive_error, is_of_driver, is_retried
from store.errors import CLOSED, StoreError
from store.sqlite.file_security import check_owners, create_private, warn_if_exposed

T = TypeVar("T")

POSTGRES_PREFIXES = ("postgresql://", "postgres://", "postgresql+asyncpg://")
SQLITE_PREFIX = "sqlite:///"
CALL_S = 10.0
"""How long a call may take."""
CONNECT_S = 5.0
CONNECTIONS_MAX = 8
"""The connections of one instance."""
_LIBPQ_ONLY = frozenset(
    {
        *(
            "connect_timeout",
            "channel_binding",
            "gssencmode",
            "requiressl",
            "sslcompression",
            "sslsni",
            "client_encoding",
        ),
        *(
            "keepalives",
            "keepalives_idle",
            "keepalives_interval",
            "keepalives_count",
            "tcp_user_timeout",
            "load_balance_hosts",
        ),
    }
)
"""Parameters of libpq that asyncpg would send to the server, which doesn't know them."""


class ArchiveDatabase:
    """The database that `url` names. `call_s`: how long a call may take."""

    def __init__(self, url: str, call_s: float = CALL_S) -> None:
        self._call_s = call_s
        self.path: str | None = None
        self._dsn = ""
        if url.startswith(POSTGRES_PREFIXES):
            self._dsn, self._connect_s = _postgres_url(url)
        else:
            path = url.removeprefix(SQLITE_PREFIX)
            if path == url or not path or path.startswith(":memory:"):
                raise ArchiveError(
                    "Unknown archive. Set TURNWIRE_ARCHIVE to postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or to "
                    "sqlite:///FILE."
                )
            self.path = path
        self._engine: AsyncEngine | None = None
        self._threads: list[threading.Thread] = []
        self._reading: AsyncEngine | None = None
        self._writing: AsyncEngine | None = None

    @property
    def is_postgres(self) -> bool:
        """Whether the database is PostgreSQL."""
        return self.path is None

    @property
    def is_open(self) -> bool:
        """Whether `open` was called, and `close` wasn't called since."""
        return self._engine is not None

    def open(self) -> None:
        """Prepare the connections; the first read or write connects. Raises `StoreError` for a file that others may replace."""
        if self._engine is None:
            self._engine = self._postgres() if self.path is None else self._sqlite(self.path)
            self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")
            self._writing = self._engine.execution_options(turnwire_writes=True)

    async def close(self) -> None:
        """Close all connections.

        The thread of a connection to SQLite whose call was cancelled still runs, and reports to the event loop when the call
        has ended. So wait for it, but no longer than a call may take.
        """
        engine, self._engine, self._reading, self._writing = self._engine, None, None, None
        if engine is not None:
            await engine.dispose()
        deadline = time.monotonic() + self._call_s
        for thread in self._threads:
            if thread.is_alive():
                await asyncio.to_thread(thread.join, max(0.0, deadline - time.monotonic()))

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Call `work` with a connection on which each statement is its own transaction, and return its result."""

        async def attempt(engine: AsyncEngine) -> T:
            async with engine.connect() as connection:
                return await work(connection)

        return await self._call(attempt, self._reading, self._call_s)

    async def write(
        self, work: Callable[[AsyncConnection], Awaitable[T]], call_s: float | None = None, *, raw_errors: bool = False
    ) -> T:
        """Call `work` in a transaction, commit, and return its result. It may be called twice.

        `call_s`: how long it may take. With `raw_errors`, an error of the database is raised as it is.
        """

        async def attempt(engine: AsyncEngine) -> T:
            async with engine.begin() as connection:
                return await work(connection)

        return await self._call(attempt, self._writing, call_s or self._call_s, raw_errors=raw_errors)

    async def _call(
        self,
        attempt: Callable[[AsyncEngine], Awaitable[T]],
        engine: AsyncEngine | None,
        call_s: float,
        *,
        raw_errors: bool = False,
    ) -> T:
        if engine is None:
            raise ArchiveError(CLOSED)
        try:
            async with asyncio.timeout(call_s):
                try:
                    return await attempt(engine)
                except DBAPIError as error:
                    if not is_retried(error):
                        raise
                return await attempt(engine)
        except StoreError:
            raise
        except DBAPIError as error:
            if raw_errors:
                raise
            raise archive_error(error) from None
        except (PoolTimeout, PendingRollbackError, OSError) as error:
            raise archive_error(error) from None
        except Exception as error:
            if is_of_driver(error):
                raise archive_error(error) from None
            raise

    def _postgres(self) -> AsyncEngine:
        import asyncpg  # type: ignore[import-untyped]

        milliseconds = str(int(self._call_s * 1000))

        async def connect(**kwargs: Any) -> Any:
            try:
                return await asyncpg.connect(
                    self._dsn,
                    timeout=self._connect_s,
                    server_settings={
                        "application_name": "turnwire",
                        "statement_timeout": milliseconds,
                        "idle_in_transaction_session_timeout": milliseconds,
                        "jit": "off",
                    },
                    **kwargs,
                )
            except ValueError as error:  # such as a port that isn't a number
                raise archive_error(error) from None

        return create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connect,
            pool_size=CONNECTIONS_MAX,
            max_overflow=0,
            pool_timeout=self._call_s,
            hide_parameters=True,
        )

    def _sqlite(self, path: str) -> AsyncEngine:
        import aiosqlite

        create_private(path)
        check_owners(path)
        file = os.path.abspath(path)

        async def connect() -> aiosqlite.Connection:
            connection = aiosqlite.connect(file, timeout=self._call_s / 2, check_same_thread=False)
            thread = connection._thread
            thread.daemon = True
            self._threads = [*(one for one in self._threads if one.is_alive()), thread]
            return await connection

        engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=file),
            async_creator=connect,
            pool_size=2,
            max_overflow=0,
            pool_timeout=self._call_s,
            hide_parameters=True,
        )
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        warn_if_exposed(path)
        return engine


def _postgres_url(url: str) -> tuple[str, float]:
    """Return the URL as asyncpg takes it, and how many seconds it may take to connect."""
    base, _, query = ("postgresql://" + url.partition("://")[2]).partition("?")
    if base.partition("://")[2].partition("/")[0].count("@") > 1:
        raise ArchiveError(
            "The URL in TURNWIRE_ARCHIVE has more than one @ before the database. Percent-encode each @ in the user and"
            " the password as %40."
        )
    parameters = parse_qsl(query, keep_blank_values=True)
    connect_s = CONNECT_S
    for name, value in parameters:
        if name == "connect_timeout" and value.isdecimal() and int(value) > 0:
            connect_s = float(value)
    kept = [(name, value) for name, value in parameters if name not in _LIBPQ_ONLY]
    return (f"{base}?{urlencode(kept)}" if kept else base), connect_s


def _set_up_sqlite(connection: DBAPIConnection, _: object) -> None:
    cursor = connection.cursor()
    for setting in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", "secure_delete = ON"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Begin a transaction that writes. A statement that reads is its own transaction."""
    if connection.get_execution_options().get("turnwire_writes"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
