"""`turnwire archive [--archive URL] status|upgrade [--to REV]|downgrade --to REV`: the archive's database."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from gateway.commands.options import EXIT_FAILED, EXIT_USAGE, fail, format_table, load_settings
from store.records import StoreError

if TYPE_CHECKING:
    from store.archive.sql_archive import ArchiveStatus, SqlArchive

HELP = "show the archive's state, or upgrade or downgrade its schema"


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this command to `parser`."""
    parser.add_argument("--archive", help="URL of the archive, or @FILE with it (default: TURNWIRE_ARCHIVE)")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("status", help="show the version of the schema, and what the archive has")
    upgrade = actions.add_parser("upgrade", help="create the schema, or upgrade it to the current revision")
    upgrade.add_argument("--to", metavar="REV", help="another revision")
    downgrade = actions.add_parser(
        "downgrade", help="downgrade the schema; this deletes what the older one has no place for"
    )
    downgrade.add_argument("--to", metavar="REV", required=True, help="the revision; `base` deletes all tables")


def run(options: Namespace) -> None:
    """Do what the action says, and print the state of the archive.

    Exit with 1 if that fails, and with 2 if a setting is wrong or there is no archive.
    """
    url = load_settings(options).archive
    if not url:
        fail("There is no archive. Set TURNWIRE_ARCHIVE, or name one with --archive URL.", EXIT_USAGE)
    try:
        status = asyncio.run(_run(url, options))
    except StoreError as error:
        fail(str(error), EXIT_FAILED)
    print("\n".join(format_table(status_rows(status))))


async def _run(url: str, options: Namespace) -> ArchiveStatus:
    # Imported here because only this command needs the packages for SQL.
    from store.archive.sql_archive import SqlArchive

    archive: SqlArchive = SqlArchive(url)
    try:
        if options.action == "upgrade":
            await archive.upgrade(options.to)
        elif options.action == "downgrade":
            await archive.downgrade(options.to)
        return await archive.status()
    finally:
        await archive.close()


def status_rows(status: ArchiveStatus) -> list[list[str]]:
    """Return the rows of the table that shows the state of an archive."""
    rows = [
        ["database", f"{status.database}, reachable"],
        ["schema", f"{status.version.revision or 'none'} ({status.version.kind})"],
    ]
    if status.users is not None:
        rows += [
            ["users", str(status.users)],
            ["conversations", str(status.conversations)],
            ["stored", f"{(status.stored_bytes or 0) / 1e6:.1f} MB"],
        ]
    return rows
