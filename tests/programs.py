"""The programs that tests use besides Python. `tests/prepare.sh` installs them; in CI, a missing one is an error."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

OUTSIDE_PATH = f"{Path(sys.executable).parent}:/usr/sbin:/usr/local/sbin:/opt/homebrew/bin"
"""Folders of the environment, Debian and Homebrew that may not be in PATH."""


def missing(what: str) -> NoReturn:
    """Fail the test in CI, or skip it elsewhere, because a program isn't installed."""
    reason = f"{what} isn't installed: tests/prepare.sh installs it, or says how to get it"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(name: str) -> Path:
    """Return the path of the program with this name or path; without it, fail or skip the test."""
    found = shutil.which(name) or shutil.which(name, path=OUTSIDE_PATH)
    return Path(found) if found else missing(name)


def installed(file: Path, what: str) -> Path:
    """Return the path of a file that belongs to `what`; without it, fail or skip the test."""
    return file if file.exists() else missing(what)
