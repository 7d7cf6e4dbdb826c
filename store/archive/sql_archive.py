"""An archive in PostgreSQL or in a SQLite file. Only a gateway with an archive imports this module."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.database import CALL_S, ArchiveDatabase
from store.archive.eraser import erase
from store.archive.reader import Reader
from store.archive.records import Applied, OutboxBatch
from store.archive.schema import users
from store.archive.schema_lock import schema_lock
from store.archive.search import Search
from store.archive.version import Version, check_rights, check_server, read_version
from store.archive.writer import Writer
from store.records import Found

UPGRADE_S = 24 * 3600.0


class ArchiveStatus(Struct, frozen=True, kw_only=True):
    """The state of an archive. Its numbers are None if the schema isn't the current one."""

    database: str
    version: Version
    users: int | None = None
    conversations: int | None = None
    stored_bytes: int | None = None


class SqlArchive(Reader):
    """`Archive` in the database that `url` names.

    `migrate`: create or upgrade the schema when it is opened. A new SQLite file gets its schema in any case. `call_s`: how
    long a call may take.
    """

    def __init__(self, url: str, *, migrate: bool = False, call_s: float = CALL_S) -> None:
        super().__init__(ArchiveDatabase(url, call_s))
        self._migrate = migrate
        self._writer = Writer(self._database)
        self._search = Search(self._database, self)

    async def open(self) -> None:
        """See `Archive.open`."""
        was_open = self._database.is_open
        try:
            self._database.open()
            version = await self.version()
            if version.kind != "current" and (
                self._migrate or (version.kind == "empty" and not self._database.is_postgres)
            ):
                version = await self.upgrade()
            version.check()
            if self._database.is_postgres:
                await self._database.read(check_rights)
        except BaseException:
            if not was_open:
                await self.close()
            raise

    async def close(self) -> None:
        """See `Archive.close`."""
        await self._database.close()

    async def ping(self) -> None:
        """See `Archive.ping`."""
        if self._database.is_postgres:
            await self._database.read(check_server)
        else:
            await self._database.write(_nothing)

    async def apply(self, batches: list[OutboxBatch]) -> list[Applied]:
        """See `Archive.apply`."""
        return await self._writer.apply(batches)

    async def search(self, user: str, query: str, limit: int, before: str | None) -> tuple[list[Found], bool]:
        """See `Archive.search`."""
        return await self._search.search(user, query, limit, before)

    async def erase(self, user: str) -> None:
        """See `Archive.erase`."""
        await erase(self._database, user)

    async def version(self) -> Version:
        """Return the version of the schema. Raises `ArchiveError` if the server can't hold an archive."""
        self._database.open()
        if self._database.is_postgres:
            await self._database.read(check_server)
        return await self._database.read(lambda connection: connection.run_sync(read_version))

    async def upgrade(self, to: str | None = None) -> Version:
        """Upgrade the schema to a revision, or to the current one, and return the version. Raises `ArchiveError`."""
        # Imported here because only this needs Alembic.
        from store.archive.upgrade import upgrade

        self._database.open()
        async with schema_lock(self._database.path):
            return await self._database.write(lambda connection: connection.run_sync(upgrade, to), UPGRADE_S)

    async def downgrade(self, to: str) -> Version:
        """Downgrade the schema to a revision and return the version. Raises `ArchiveError`."""
        from store.archive.upgrade import downgrade

        self._database.open()
        async with schema_lock(self._database.path):
            return await self._database.write(lambda connection: connection.run_sync(downgrade, to), UPGRADE_S)

    async def status(self) -> ArchiveStatus:
        """Return what the archive has. Raises `ArchiveError` if it can't be reached."""
        version = await self.version()
        name = "PostgreSQL" if self._database.is_postgres else "SQLite"
        if version.kind != "current":
            return ArchiveStatus(database=name, version=version)
        columns = func.count(), func.sum(users.c.conversation_count), func.sum(users.c.stored_bytes)

        async def work(connection: AsyncConnection) -> list[int]:
            return [int(value or 0) for value in (await connection.execute(select(*columns))).one()]

        numbers = await self._database.read(work)
        return ArchiveStatus(
            database=name, version=version, users=numbers[0], conversations=numbers[1], stored_bytes=numbers[2]
        )


async def _nothing(connection: AsyncConnection) -> None:
    """Do nothing in a transaction that may write."""
    await connection.execute(text("SELECT 1"))
