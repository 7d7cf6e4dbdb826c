"""The file `.env` in the working directory, with settings and keys. A variable of the environment overrides it."""

from __future__ import annotations

import re
from pathlib import Path

from dotenv.parser import parse_stream

from gateway.commands.exits import EXIT_USAGE, fail
from gateway.commands.secret_exposure import warn_of_exposed_file
from gateway.settings import (
    ENV_FILE_VARIABLE,
    add_to_environment,
    environment,
)

DEFAULT_FILE = ".env"
_NAME = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)


def load_env_file() -> None:
    """Add the variables of the file to the environment of this process, unless they are set.

    `TURNWIRE_ENV_FILE` names another file; empty means none. Raises `OSError` if a file of that name can't be read.
    Exit with 2 if the file isn't UTF-8 text, or if a line isn't NAME=value.
    """
    is_named = ENV_FILE_VARIABLE in environment()
    name = environment().get(ENV_FILE_VARIABLE, DEFAULT_FILE)
    if not name or not (is_named or Path(name).exists()):
        return
    add_to_environment(_read(name))
    warn_of_exposed_file(name)


def _read(name: str) -> dict[str, str]:
    """Return the variables of the file. A message about a line doesn't show it, because it may hold a secret."""
    values: dict[str, str] = {}
    try:
        with open(name, encoding="utf-8") as file:
            bindings = list(parse_stream(file))
    except UnicodeDecodeError:
        fail(f"{name} isn't UTF-8 text. Save it as UTF-8.", EXIT_USAGE)
    for binding in bindings:
        key, value, original = binding.key, binding.value, binding.original
        if key is None and not binding.error:
            continue  # a comment, or blank lines at the end
        if key is None or value is None or "\0" in value or not _NAME.fullmatch(key):
            text = original.string  # it begins with the blank lines before the binding
            line = original.line + text[: len(text) - len(text.lstrip())].count("\n")
            fail(
                f"Line {line} of {name} can't be read. Write NAME=value, with a quote at "
                "both ends of the value or at neither, or begin the line with # to leave it out.",
                EXIT_USAGE,
            )
        values[key] = value
    return values
