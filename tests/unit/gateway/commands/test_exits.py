"""Tests of how a command ends when it fails."""

from __future__ import annotations

import pytest

from gateway.commands.exits import fail


def test_fail(capsys: pytest.CaptureFixture[str]) -> None:
    """`fail` prints one sentence to stderr and exits with the given code."""
    with pytest.raises(SystemExit) as exited:
        fail("No.", 3)
    assert exited.value.code == 3
    assert capsys.readouterr() == ("", "turnwire: No.\n")
