"""The start of the `turnwire` command, also run as `python -m gateway`."""

from __future__ import annotations

import sys

from gateway.commands.exits import EXIT_INTERRUPTED


def main() -> None:
    """Run the command that the arguments of this process name. Exit with 130 after Ctrl-C."""
    try:
        from gateway.commands import command_line  # takes a second, in which Ctrl-C may be pressed, too

        command_line.main()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
