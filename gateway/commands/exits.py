"""The exit of a command that fails: a message on standard error, and an exit code."""

from __future__ import annotations

import sys
from typing import NoReturn

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def fail(message: str, code: int) -> NoReturn:
    """Print `message` on standard error, and exit with `code`."""
    print(f"turnwire: {message}", file=sys.stderr)
    sys.exit(code)
