"""`turnwire backup FILE`: copy the SQLite store to a new file, also while the gateway runs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from gateway.commands.options import EXIT_FAILED, EXIT_USAGE, fail, load_settings
from store.connect import SQLITE_PREFIX
from store.errors import StoreError
from store.sqlite.backup import back_up
from store.sqlite.database import MEMORY

HELP = "copy the SQLite store to a new file, also while the gateway runs"


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this command to `parser`."""
    parser.add_argument("file", metavar="FILE", help="the new file")
    parser.add_argument("--store", help="sqlite:///FILE (default: as for serve)")


def run(options: Namespace) -> None:
    """Make the copy, and print its size.

    Exit with 1 if that fails, and with 2 if a setting is wrong or the store has no file.
    """
    url = load_settings(options).store_url
    path = url.removeprefix(SQLITE_PREFIX)
    if path == url or path == MEMORY:
        fail(
            "The store isn't a SQLite file. Back up Redis with its own append-only file or snapshots, or name a file with "
            "--store sqlite:///FILE.",
            EXIT_USAGE,
        )
    try:
        size = back_up(path, options.file)
    except StoreError as error:
        fail(str(error), EXIT_FAILED)
    print(f"{path} is copied to {options.file} ({size / 1e6:.1f} MB). docs/operations.md says how to restore it.")
