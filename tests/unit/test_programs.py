"""What becomes of a test whose program isn't installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.programs import installed, program

NOWHERE = Path("no") / "such" / "program"
WANTED = {"program": partial(program, "no-such-program"), "file": partial(installed, NOWHERE, "Such")}


@pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED)
def test_ci_does_without_none(wanted: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """There the test fails, and says what to do. A skip would skip this test too, so it is caught as well."""
    monkeypatch.setenv("CI", "true")
    said = r"uch.* isn't installed: tests/prepare\.sh"
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception), match=said) as raised:
        wanted()
    assert raised.type is pytest.fail.Exception


@pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED)
def test_a_person_may(wanted: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """There the test is skipped, and says the same."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"uch.* isn't installed: tests/prepare\.sh"):
        wanted()


def test_what_is_there_is_found() -> None:
    """By its name or its path."""
    assert program(sys.executable) == Path(sys.executable)
    assert program("sh").is_file()
    assert installed(Path(__file__), "This file") == Path(__file__)
