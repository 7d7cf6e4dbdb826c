"""The browser client without a network, and at a gateway that refuses its origin, run in Node."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.programs import program

SCRIPT = Path(__file__).with_name("network.mjs")
CLIENT = Path(__file__).parents[3] / "static" / "turnwire.js"
NAMES = re.findall(r'^  async "(.+?)"\(', SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str | None]:
    """The error of each case, or None."""
    command = [str(program("node")), str(SCRIPT), CLIENT.as_uri()]
    found: dict[str, str | None] = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_network_case_holds(name: str, outcomes: dict[str, str | None]) -> None:
    """The case has no error."""
    assert outcomes[name] is None, outcomes[name]
