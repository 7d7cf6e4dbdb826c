"""The `turnwire` command, also run as `python -m gateway`. It runs one of the subcommands."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from gateway import __version__
from gateway.commands import admin, archive, backup, chat, check, keys, models, serve
from gateway.commands.env_file import load_env_file
from gateway.commands.options import EXIT_USAGE, fail
from gateway.commands.unknown_variables import warn_of_unknown_variables
from gateway.settings import environment

COMMANDS = {
    "serve": serve,
    "chat": chat,
    "models": models,
    "check": check,
    "keys": keys,
    "admin": admin,
    "backup": backup,
    "archive": archive,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command named in `arguments`, or `serve` if none is named. None means `sys.argv`.

    Exit with a code above 0 if the command fails.
    """
    parser = ArgumentParser(prog="turnwire", description="A WebSocket-first realtime chat gateway.")
    parser.add_argument("--version", action="version", version=f"turnwire {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_options(commands.add_parser(name, help=command.HELP))
    args = list(sys.argv[1:] if arguments is None else arguments)
    if not args or (args[0].startswith("-") and args[0] not in {"-h", "--help", "--version"}):
        args.insert(0, "serve")
    options = parser.parse_args(args)
    try:
        load_env_file()
        warn_of_unknown_variables(environment())
    except OSError as error:
        fail(f"Can't read {error.filename}: {error.strerror}. Correct the file, or TURNWIRE_ENV_FILE.", EXIT_USAGE)
    try:
        COMMANDS[options.command].run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed the pipe. Nothing more may be flushed at exit.
        sys.stdout = None
        sys.exit(1)


if __name__ == "__main__":
    main()
