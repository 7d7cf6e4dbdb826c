"""The `turnwire` command, also as `python -m gateway`: which of the commands is meant."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from gateway import __version__
from gateway.commands import admin, check, keys, models, serve

COMMANDS = {"serve": serve, "models": models, "check": check, "keys": keys, "admin": admin}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that is named, or `serve`. Leaves with an exit code and a sentence if it fails."""
    parser = ArgumentParser(prog="turnwire", description="A WebSocket-first realtime chat gateway.")
    parser.add_argument("--version", action="version", version=f"turnwire {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_options(commands.add_parser(name, help=command.HELP))
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in {"-h", "--help", "--version"}):
        given.insert(0, "serve")
    options = parser.parse_args(given)
    try:
        COMMANDS[options.command].run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output, `head` for one, has seen enough; nothing more may be flushed at the end.
        sys.stdout = None
        sys.exit(1)


if __name__ == "__main__":
    main()
