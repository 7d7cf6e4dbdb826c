"""Check docs/security.md against the tests: every row names a test, and each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| threat |")
]
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_each_threat_has_a_test_that_exists(row: list[str]) -> None:
    """A row is a threat, its mitigation, and the names or files of tests."""
    assert len(row) == 3
    named = re.findall(r"`([^`]+)`", row[2])
    assert named
    for name in named:
        if name.startswith("tests/"):
            assert (ROOT / name).is_file(), name
        else:
            assert re.search(rf"^(?:async )?def {re.escape(name)}\(", TESTS, re.MULTILINE), name
