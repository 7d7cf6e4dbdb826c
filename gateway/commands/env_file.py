"""The file `.env` in the working directory, with settings and keys. A variable of the environment overrides it.

Also the warning about variables that look like settings and aren't.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from dotenv.parser import parse_stream

from gateway.commands.options import EXIT_USAGE, fail
from gateway.commands.secret_exposure import warn, warn_of_exposed_file
from gateway.setting_values import LEVELS, log_level
from gateway.settings import (
    ENV_FILE_VARIABLE,
    PREFIX,
    add_to_environment,
    environment,
    setting_variables,
)

DEFAULT_FILE = ".env"
CLIENT_VARIABLES = frozenset({"TURNWIRE_KEY", "TURNWIRE_TOKEN", "TURNWIRE_URL"})
"""The variables that the proxy and the client in `examples/` read. They aren't settings."""

_NAME = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_KUBERNETES = re.compile(r"TURNWIRE\w*_(SERVICE_(HOST|PORT)\w*|PORT_\d+_\w+)")
"""The names of variables that Kubernetes sets for a service called turnwire.

It also sets TURNWIRE_PORT=tcp://…, which is told from a misspelled setting by its value.
"""


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


def warn_of_unknown_variables(variables: Mapping[str, str]) -> None:
    """Warn of each of `variables` that looks like a setting and isn't one, with the most similar setting.

    Also warn of a LOG_LEVEL that isn't a level, unless TURNWIRE_LOG_LEVEL is set.
    """
    level = variables.get("LOG_LEVEL")
    if level and log_level(level) not in LEVELS and not variables.get("TURNWIRE_LOG_LEVEL"):
        warn("LOG_LEVEL has an unknown value and is ignored. Set TURNWIRE_LOG_LEVEL to debug, info, warning or error.")
    known = setting_variables()
    by_bare_name = {name.removeprefix(PREFIX): name for name in sorted(known)}
    for variable in sorted(variables.keys() - known - CLIENT_VARIABLES):
        if not variable.startswith(PREFIX) or _is_of_kubernetes(variable, variables[variable]):
            continue
        similar = get_close_matches(variable.removeprefix(PREFIX), by_bare_name, 1)
        hint = f"Did you mean {by_bare_name[similar[0]]}?" if similar else "docs/operations.md lists the settings."
        warn(f"{variable} is set, but there is no such setting. {hint}")


def _is_of_kubernetes(variable: str, value: str) -> bool:
    return _KUBERNETES.fullmatch(variable) is not None or (variable.endswith("_PORT") and "://" in value)
