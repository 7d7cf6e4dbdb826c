"""What other users of this machine can see of our secrets: it is said on standard error, with what to do about it."""

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
"""Settings that an option gives, and whether a value of theirs is one."""
OPTIONS = {"admin_url": "--url", "admin_token": "--token"}
MORE_THAN_A_GROUP_READS = stat.S_IRWXO | stat.S_IWGRP


def option_of(name: str) -> str:
    """The option that gives a setting."""
    return OPTIONS.get(name, f"--{name.replace('_', '-')}")


def warn_of_onlookers(given: Mapping[str, Any], settings: Settings) -> None:
    """`given`: what stood on the command line. Secrets among it are warned of, and files of secrets that others may read."""
    files = [settings.api_keys or ""]
    for name, is_secret in SECRETS.items():
        variables = variables_of(name)[1]
        set_by = [environment()[one] for one in variables if one in environment()]
        value = given[name] if name in given else "".join(set_by[:1])
        if value.startswith("@"):
            files.append(value[1:])
        elif name in given and is_secret(value):
            _say(
                f"{option_of(name)} holds a secret, and every user of this machine can read command lines. Put it into"
                f" a file and give {option_of(name)} @FILE, or set {variables[0]}."
            )
    for file in files:
        with suppress(OSError):
            if os.stat(file).st_mode & MORE_THAN_A_GROUP_READS:
                _say(f"Others on this machine may read or change {file}, which is secret: chmod 640 it, or less.")


def _say(warning: str) -> None:
    print(f"turnwire: {warning}", file=sys.stderr)
