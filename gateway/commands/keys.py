"""`turnwire keys new --user NAME | --service NAME [--scopes chat,read] [--days N] [--retention-days N]`: make an API key."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from gateway.commands.exits import EXIT_USAGE, fail
from gateway.identity.api_keys import new_key
from gateway.identity.principal import DEFAULT_SCOPES, SCOPES, known_scopes

HELP = "create an API key"


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this command to `parser`."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    new = actions.add_parser("new", help="create a key: print it once, with its line for the file of TURNWIRE_API_KEYS")
    user_or_service = new.add_mutually_exclusive_group(required=True)
    user_or_service.add_argument("--user", help="user that the key belongs to")
    user_or_service.add_argument("--service", help="service that the key belongs to; it can act for its users")
    new.add_argument(
        "--scopes", help="some of chat,read,cancel,admin,as (default: chat,read,cancel; for a service also as)"
    )
    new.add_argument("--days", type=float, help="lifetime in days (default: until its line is removed)")
    new.add_argument(
        "--retention-days",
        type=int,
        help="days that the user's conversations are kept after their last change; 0: forever (default: TURNWIRE_RETENTION_DAYS)",
    )


def run(options: Namespace) -> None:
    """Make a key; print its line for the file on standard output, and the key itself on standard error.

    Exit with 2 if an option is wrong.
    """
    named = options.scopes.split(",") if options.scopes else [*DEFAULT_SCOPES, *(["as"] if options.service else [])]
    unknown = set(named) - SCOPES
    if unknown:
        fail(f"Unknown scope {', '.join(sorted(unknown))}. Choose from {', '.join(sorted(SCOPES))}.", EXIT_USAGE)
    try:
        key, line = new_key(
            user=options.user,
            service=options.service,
            scopes=known_scopes(named),
            lifetime_s=None if options.days is None else options.days * 86_400,
            retention_days=options.retention_days,
        )
    except ValueError as error:
        fail(f"Can't create the key: {error}. Correct the options.", EXIT_USAGE)
    print(f"The key, shown only once: {key}\nThe line for the file of TURNWIRE_API_KEYS:", file=sys.stderr)
    print(line)
