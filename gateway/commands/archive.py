"""`turnwire archive [--archive URL] status|retry|upgrade [--to REV]|downgrade --to REV`: the archive and its outboxes."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from gateway.commands.options import EXIT_FAILED, EXIT_USAGE, fail, format_table, load_settings
from gateway.settings import Settings
from store.connect import is_shared
from store.errors import StoreError

if TYPE_CHECKING:
    from store.archive.sql_archive import ArchiveStatus, SqlArchive

HELP = "show the archive's state, or upgrade or downgrade its schema"


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this command to `parser`."""
    parser.add_argument("--archive", help="URL of the archive, or @FILE with it (default: TURNWIRE_ARCHIVE)")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("status", help="show the version of the schema, and what the archive has")
    actions.add_parser("retry", help="try again to archive the entries that were refused")
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
    settings = load_settings(options)
    url = settings.archive
    if not url:
        fail("There is no archive. Set TURNWIRE_ARCHIVE, or name one with --archive URL.", EXIT_USAGE)
    try:
        status = asyncio.run(_run(url, options))
    except StoreError as error:
        fail(str(error), EXIT_FAILED)
    rows, refused = status_rows(status), list[list[str]]()
    try:
        if options.action in {"status", "retry"} and is_shared(settings.store_url):
            pending, refused = asyncio.run(_outboxes(settings, retry=options.action == "retry"))
            rows += pending
    except StoreError as error:
        rows.append(["store", str(error)])
    print("\n".join(format_table(rows)))
    for user, entry, reason in refused:
        print(f"refused: {entry} of user {user}: {reason}")


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


async def _outboxes(settings: Settings, *, retry: bool) -> tuple[list[list[str]], list[list[str]]]:
    """Return the rows about what waits in Redis, and the entries that the archive has refused. `retry`: put these back first."""
    # Imported here because only this command opens a Redis without serving.
    from store.redis.store import RedisStore

    store = RedisStore(settings.store_url, history_ttl_s=settings.history_ttl_s, archived=True)
    try:
        await store.open()
        users = await store.users_aside()
        put_back = sum([await store.put_back(user) for user in users]) if retry else 0
        summary = await store.outbox_summary()
        refused = [
            [user, entry, reason] for user in users for entry, reason in (await store.entries_aside(user)).items()
        ]
    finally:
        await store.close()
    rows = [
        ["waiting", f"{summary.entries} entries of {summary.users} users, the oldest for {summary.oldest_s:.0f} s"],
        ["refused", f"{len(refused)} entries of {len(users)} users"],
    ]
    return rows + ([["retried", f"{put_back} entries; a running gateway archives them"]] if retry else []), refused


def status_rows(status: ArchiveStatus) -> list[list[str]]:
    """Return the rows of the table that shows the state of an archive."""
    lacking = f": it lacks {status.version.missing}" if status.version.missing else ""
    rows = [
        ["database", f"{status.database}, reachable"],
        ["schema", f"{status.version.revision or 'none'} ({status.version.kind}{lacking})"],
    ]
    if status.users is not None:
        rows += [
            ["users", str(status.users)],
            ["conversations", str(status.conversations)],
            ["stored", f"{(status.stored_bytes or 0) / 1e6:.1f} MB"],
        ]
    return rows
