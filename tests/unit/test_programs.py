"""A test whose program isn't installed fails in CI and is skipped elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.programs import installed, program

NOWHERE = Path("no") / "such" / "program"
LOOKUPS = {"program": partial(program, "no-such-program"), "file": partial(installed, NOWHERE, "Such")}


@pytest.mark.parametrize("lookup", LOOKUPS.values(), ids=LOOKUPS)
def test_a_missing_program_fails_in_ci(lookup: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """In CI, the test fails, and the message says what to do. A skip is caught as well: it would skip this test."""
    monkeypatch.setenv("CI", "true")
    message = r"uch.* isn't installed: tests/prepare\.sh"
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception), match=message) as raised:
        lookup()
    assert raised.type is pytest.fail.Exception


@pytest.mark.parametrize("lookup", LOOKUPS.values(), ids=LOOKUPS)
def test_a_missing_program_is_skipped_outside_of_ci(
    lookup: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of CI, the test is skipped with the same message."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"uch.* isn't installed: tests/prepare\.sh"):
        lookup()


def test_an_installed_program_is_found() -> None:
    """`program` finds a program by its name or path, and `installed` returns an existing file."""
    assert program(sys.executable) == Path(sys.executable)
    assert program("sh").is_file()
    assert installed(Path(__file__), "This file") == Path(__file__)
