"""Warnings on standard error about secrets that other users of this machine can see, with what to do about them."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from gateway.settings import Settings, environment, variables_of
from store.connect import has_password

SECRETS: dict[str, Callable[[str], bool]] = {"store": has_password, "admin_token": bool}
"""The settings that an option may set to a secret, each with a function that tells whether a value holds one."""
OPTIONS = {"admin_url": "--url", "admin_token": "--token"}
MORE_THAN_A_GROUP_READS = stat.S_IRWXO | stat.S_IWGRP


def option_of(name: str) -> str:
    """Return the option that sets the setting `name`."""
    return OPTIONS.get(name, f"--{name.replace('_', '-')}")


def warn_of_onlookers(given: Mapping[str, Any], settings: Settings) -> None:
    """Warn of secrets on the command line, and of files with secrets that others may read or change.

    `given` are the settings on the command line, by name.
    """
    files = [settings.api_keys or ""]
    for name, is_secret in SECRETS.items():
        variables = variables_of(name)[1]
        set_by = [environment()[one] for one in variables if one in environment()]
        value = given[name] if name in given else "".join(set_by[:1])
        if value.startswith("@"):
            files.append(value[1:])
        elif name in given and is_secret(value):
            _say(
                f"{option_of(name)} contains a secret, and every user of this machine can read command lines. Put the secret"
                f" into a file and use {option_of(name)} @FILE, or set {variables[0]}."
            )
    for file in files:
        with suppress(OSError):
            if os.stat(file).st_mode & MORE_THAN_A_GROUP_READS:
                _say(
                    f"Other users of this machine can read or change {file}, which contains secrets: run chmod 640, or stricter."
                )


def _say(warning: str) -> None:
    print(f"turnwire: {warning}", file=sys.stderr)
