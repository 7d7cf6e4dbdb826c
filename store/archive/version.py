"""The version of the archive's schema: what the database says, and whether this Turnwire can use it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine.reflection import ObjectKind
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.api import ArchiveUnfit
from store.archive.schema import REVISIONS, VERSION_TABLE, metadata

Kind = Literal["current", "empty", "older", "newer", "foreign", "incomplete"]
POSTGRES_MIN = 14
OURS = tuple(metadata.tables)
UPGRADE = "Run turnwire archive upgrade, or set TURNWIRE_ARCHIVE_MIGRATE=1."
_TEXTS: dict[str, str] = {
    "empty": f"The archive's database is empty. {UPGRADE}",
    "older": f"The archive has an older schema. {UPGRADE}",
    "newer": "The archive has a newer schema than this Turnwire. Upgrade Turnwire.",
    "incomplete": (
        "The archive lacks {missing}, though it has the current schema, so it was changed by hand. Restore it from a backup, "
        "or add what is missing as docs/schema.md says."
    ),
    "foreign": (
        "The archive's database isn't Turnwire's: it has tables with the same names. Use a database of its own, or a "
        "schema of its own with ?search_path=NAME in TURNWIRE_ARCHIVE."
    ),
}


class Version(Struct, frozen=True):
    """The schema that a database has.

    `revision` is None if there is no schema of Turnwire's. `missing` is what an incomplete one lacks.
    """

    kind: Kind
    revision: str | None
    missing: str | None = None

    def check(self) -> None:
        """Raise `ArchiveUnfit` unless the schema is the current one."""
        if self.kind != "current":
            raise ArchiveUnfit(self._text)

    def check_upgradable(self) -> None:
        """Raise `ArchiveUnfit` if the schema can't be upgraded to the current one."""
        if self.kind in {"newer", "foreign", "incomplete"}:
            raise ArchiveUnfit(self._text)

    @property
    def _text(self) -> str:
        return _TEXTS[self.kind].format(missing=self.missing)


def read_version(connection: Connection) -> Version:
    """Return the version of the database, and change nothing."""
    inspector = inspect(connection)
    names = {*inspector.get_table_names(), *inspector.get_view_names()}
    revision: str | None = None
    if VERSION_TABLE in names:
        revision = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    if revision is None:
        return Version("foreign" if names.intersection(OURS) else "empty", None)
    if revision not in REVISIONS:
        return Version("newer", revision)
    if revision != REVISIONS[-1]:
        return Version("older", revision)
    missing = _missing(connection)
    return Version("current" if missing is None else "incomplete", revision, missing)


def _missing(connection: Connection) -> str | None:
    """Return the first table or column of ours that the database lacks, or None."""
    found = inspect(connection).get_multi_columns(filter_names=OURS, kind=ObjectKind.ANY)
    names = {table: {column["name"] for column in columns} for (_, table), columns in found.items()}
    for table in metadata.tables.values():
        if table.name not in names:
            return f"the table {table.name}"
        for column in table.c:
            if column.name not in names[table.name]:
                return f"the column {column.name} of the table {table.name}"
    return None


async def check_server(connection: AsyncConnection) -> None:
    """Raise `ArchiveUnfit` if the PostgreSQL is too old, doesn't use UTF-8, is read-only, or has no schema for tables."""
    row = (
        await connection.execute(
            text(
                "SELECT current_setting('server_version_num')::int / 10000 AS version, pg_is_in_recovery() AS is_replica,"
                " current_setting('server_encoding') AS encoding,"
                " current_setting('transaction_read_only') = 'on' AS is_read_only, current_schema() AS place"
            )
        )
    ).one()
    if row.version < POSTGRES_MIN:
        raise ArchiveUnfit(f"The archive is PostgreSQL {row.version}. Upgrade it to {POSTGRES_MIN} or newer.")
    if row.encoding != "UTF8":
        raise ArchiveUnfit(
            f"The archive's database has the encoding {row.encoding}. Create one with ENCODING 'UTF8' and use that."
        )
    if row.is_replica or row.is_read_only:
        raise ArchiveUnfit("The archive is read-only, as a replica is. Set TURNWIRE_ARCHIVE to the primary server.")
    if row.place is None:
        raise ArchiveUnfit(
            "The archive has no schema to create tables in. Create it, or set search_path in TURNWIRE_ARCHIVE."
        )


async def check_rights(connection: AsyncConnection) -> None:
    """Raise `ArchiveUnfit` if the user may not read and write the tables. The database is PostgreSQL."""
    for name in OURS:
        for right in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            statement = text("SELECT has_table_privilege(CAST(:name AS text), CAST(:right AS text))")
            if not (await connection.execute(statement, {"name": name, "right": right})).scalar():
                raise ArchiveUnfit(
                    f"The archive's user has no right to {right} in the table {name}. Make the user the owner of the "
                    "database's tables, or GRANT it the rights."
                )
