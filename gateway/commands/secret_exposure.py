"""Warnings on standard error about what other users of this machine can see, each with what to do about it.

They are about secrets on the command line, and about files of credentials or hashes that others may read or change.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from gateway.settings import Settings, environment, environment_variables
from store.connect import has_password

SECRET_SETTINGS: dict[str, Callable[[str], bool]] = {
    "store": has_password,
    "archive": has_password,
    "admin_token": bool,
}
"""The settings that an option may set to a secret, each with a function that tells whether a value holds one."""
OPTION_NAMES = {"admin_url": "--url", "admin_token": "--token"}
UNSAFE_MODE_BITS = stat.S_IRWXO | stat.S_IWGRP


def option_name(name: str) -> str:
    """Return the option that sets the setting `name`."""
    return OPTION_NAMES.get(name, f"--{name.replace('_', '-')}")


def warn_of_exposed_secrets(option_values: Mapping[str, Any], settings: Settings) -> None:
    """Warn of secrets on the command line, and of private files that others may read or change.

    `option_values` are the settings on the command line, by name.
    """
    files = [settings.api_keys or ""]
    for name, is_secret in SECRET_SETTINGS.items():
        variables = environment_variables(name)[1]
        from_environment = next((value for variable in variables if (value := environment().get(variable))), "")
        value = option_values.get(name, from_environment)
        if value.startswith("@"):
            files.append(value[1:])
        elif name in option_values and is_secret(value):
            warn(
                f"{option_name(name)} contains a secret, and every user of this machine can read command lines. Put the secret"
                f" into a file and use {option_name(name)} @FILE, or set {variables[0]}."
            )
    for file in files:
        warn_of_exposed_file(file)


def warn_of_exposed_file(file: str) -> None:
    """Warn if others may read or change a file with secrets."""
    with suppress(OSError):
        if os.stat(file).st_mode & UNSAFE_MODE_BITS:
            warn(
                f"Other users of this machine can read or change {file}, which should be private: run chmod 640, or stricter."
            )


def warn(warning: str) -> None:
    """Print a warning on standard error."""
    print(f"turnwire: {warning}", file=sys.stderr)
