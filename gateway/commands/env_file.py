"""The file `.env` in the working directory, with settings and keys. A variable of the environment overrides it.

Also the warning about variables that look like settings and aren't.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from dotenv import dotenv_values

from gateway.commands.secret_exposure import warn, warn_of_exposed_file
from gateway.settings import ENV_FILE_VARIABLE, PREFIX, add_to_environment, environment, setting_variables

DEFAULT_FILE = ".env"
CLIENT_VARIABLES = frozenset({"TURNWIRE_KEY", "TURNWIRE_TOKEN", "TURNWIRE_URL"})
"""The variables that the proxy and the client in `examples/` read. They aren't settings."""

_KUBERNETES = re.compile(r"TURNWIRE\w*_(SERVICE_(HOST|PORT)\w*|PORT_\d+_\w+)")
"""The names of variables that Kubernetes sets for a service called turnwire.

It also sets TURNWIRE_PORT=tcp://…, which is told from a misspelled setting by its value.
"""


def load_env_file() -> None:
    """Add the variables of the file to the environment of this process, unless they are set.

    `TURNWIRE_ENV_FILE` names another file; empty means none. Raises `OSError` if a file of that name can't be read.
    """
    is_named = ENV_FILE_VARIABLE in environment()
    name = environment().get(ENV_FILE_VARIABLE, DEFAULT_FILE)
    if not name or not (is_named or Path(name).exists()):
        return
    with open(name, encoding="utf-8") as file:
        values = dotenv_values(stream=file, interpolate=False)
    add_to_environment({variable: value for variable, value in values.items() if value is not None})
    warn_of_exposed_file(name)


def warn_of_unknown_variables(variables: Mapping[str, str]) -> None:
    """Warn of each of `variables` that looks like a setting and isn't one, with the most similar setting."""
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
