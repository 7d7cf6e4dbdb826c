"""Upgrades and downgrades of the archive's schema by Alembic, one instance at a time."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.schema import SetColumnComment, SetTableComment

from store.archive.api import ArchiveError
from store.archive.schema import REVISIONS, metadata
from store.archive.version import Version, read_version

BASE = "base"
_LOCK = 0x7475726E77697265
"""The key of PostgreSQL's advisory lock: "turnwire" as a number."""
_SCRIPTS = Path(__file__).with_name("migrations")


def upgrade(connection: Connection, to: str | None = None) -> Version:
    """Upgrade the schema to a revision, or to the current one; return the version. Raises `ArchiveError`.

    The connection is in a transaction. If another instance upgrades the schema now, wait for it.
    """
    _lock(connection)
    before = read_version(connection)
    before.check_upgradable()
    target = _revision(to or REVISIONS[-1])
    if target == BASE or (before.revision is not None and REVISIONS.index(before.revision) > REVISIONS.index(target)):
        raise ArchiveError(
            f"The archive's schema is {before.revision or BASE}. Run turnwire archive downgrade --to {target}."
        )
    if before.revision != target:
        command.upgrade(_config(connection), target)
        if target == REVISIONS[-1]:
            _describe(connection)
    return read_version(connection)


def downgrade(connection: Connection, to: str) -> Version:
    """Downgrade the schema to an older revision, or to `base`, which has no tables; return the version.

    What the older schema has no place for is deleted. Raises `ArchiveError`.
    """
    _lock(connection)
    before = read_version(connection)
    before.check_upgradable()
    target = _revision(to)
    if target != BASE and (before.revision is None or REVISIONS.index(before.revision) < REVISIONS.index(target)):
        raise ArchiveError(
            f"The archive's schema is {before.revision or BASE}. Run turnwire archive upgrade --to {target}."
        )
    if before.revision not in {None, target}:
        command.downgrade(_config(connection), target)
    return read_version(connection)


def _revision(name: str) -> str:
    if name not in {BASE, *REVISIONS}:
        raise ArchiveError(f"There is no revision {name!r}. Use one of {', '.join([BASE, *REVISIONS])}.")
    return name


def _lock(connection: Connection) -> None:
    """Wait until no other instance changes the schema. For a SQLite file, the caller has `schema_lock`."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _describe(connection: Connection) -> None:
    """Store the comments of tables and columns in the database, where it has comments."""
    if connection.dialect.supports_comments:
        for table in metadata.tables.values():
            connection.execute(SetTableComment(table))
            for column in table.c:
                connection.execute(SetColumnComment(column))
