"""Warnings about variables that look like settings and aren't."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches

from gateway.commands.secret_exposure import warn
from gateway.setting_values import LEVELS, log_level
from gateway.settings import PREFIX, setting_variables

CLIENT_VARIABLES = frozenset({"TURNWIRE_KEY", "TURNWIRE_TOKEN", "TURNWIRE_URL"})
"""The variables that the clients, `turnwire chat` among them, and the programs in `examples/` read. They aren't settings."""

_KUBERNETES = re.compile(r"TURNWIRE\w*_(SERVICE_(HOST|PORT)\w*|PORT_\d+_\w+)")
"""The names of variables that Kubernetes sets for a service called turnwire.

It also sets TURNWIRE_PORT=tcp://…, which is told from a misspelled setting by its value.
"""


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
