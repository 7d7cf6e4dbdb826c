"""The programs that tests run beside Python. `tests/prepare.sh` installs them; CI does without none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

OUTSIDE_PATH = "/usr/sbin:/usr/local/sbin:/opt/homebrew/bin"
"""Where Debian and Homebrew keep what only root's PATH, or nobody's, names."""


def missing(what: str) -> NoReturn:
    """The test can't be run for want of this: in CI it fails, a person's run skips it."""
    reason = f"{what} isn't installed: tests/prepare.sh installs it, or says how to get it"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(name: str) -> Path:
    """Where the program of this name, or at this path, is."""
    found = shutil.which(name) or shutil.which(name, path=OUTSIDE_PATH)
    return Path(found) if found else missing(name)


def installed(file: Path, what: str) -> Path:
    """The file, which belongs to `what`."""
    return file if file.exists() else missing(what)
