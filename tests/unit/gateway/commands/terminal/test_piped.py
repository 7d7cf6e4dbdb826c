"""Tests of the answer to what is piped in."""

from __future__ import annotations

import io
import sys

import pytest

from gateway.commands.terminal.piped import _Written
from turnwire.client import ErrorRecord, TurnDelta, TurnFailedEvent

CONTROLS = "A\x1b]0;title\x07B\x9bC\x08D"


class _Output(io.StringIO):
    """Standard output, which may be a terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize("is_terminal", [True, False])
def test_control_characters_reach_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_terminal: bool
) -> None:
    """In `echo Hi | turnwire chat`, the answer is shown in the terminal. A file gets it as it is."""
    output = _Output(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stdout", output)
    written = _Written()
    written.take(TurnDelta(turn="t", seq=1, part=0, text=CONTROLS))
    written.take(TurnFailedEvent(turn="t", seq=2, error=ErrorRecord(code="x", message=f"No {CONTROLS}.")))
    with pytest.raises(SystemExit):
        written.end()
    assert output.getvalue() == ("A�]0;title�B�C�D\n" if is_terminal else f"{CONTROLS}\n")
    assert capsys.readouterr().err == "turnwire: No A�]0;title�B�C�D.\n"
