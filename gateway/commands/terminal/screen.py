"""The screen of the chat: it shows the answer, and lines about it in faint letters."""

from __future__ import annotations

import threading
from typing import TextIO

_CONTROLS = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}
_DIRECTIONS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\N{REPLACEMENT CHARACTER}")
_SHOWN = {**_CONTROLS, **_DIRECTIONS, ord("\r"): None}

_FAINT, _ALERT, _RESET = "\x1b[2m", "\x1b[31m", "\x1b[0m"


def shown(text: str) -> str:
    """Return `text` without characters that control a terminal, such as those that set its title.

    A model, a title and an error may contain them. Line feeds and tabs are kept.
    """
    return text.translate(_SHOWN)


class Screen:
    """A terminal that several threads write to. With `styled`, notes are faint and errors are red."""

    def __init__(self, output: TextIO, *, styled: bool) -> None:
        self._output = output
        self._styled = styled
        self._style = ""
        self._at_line_start = True
        self._lock = threading.RLock()

    def text(self, text: str) -> None:
        """Write a piece of an answer."""
        self._write(text, "")

    def faint(self, text: str) -> None:
        """Write a piece of text in faint letters, such as reasoning."""
        self._write(text, _FAINT)

    def note(self, line: str) -> None:
        """Write a line about the chat in faint letters."""
        self._line(line, _FAINT)

    def alert(self, line: str) -> None:
        """Write a line about an error."""
        self._line(line, _ALERT)

    def line(self, line: str = "") -> None:
        """Write a line."""
        self._line(line, "")

    def end_line(self) -> None:
        """Begin a new line, unless nothing was written since the last one began. Letters are normal again."""
        with self._lock:
            self._set_style("")
            if not self._at_line_start:
                self._output.write("\n")
            self._at_line_start = True
            self._output.flush()

    def typed(self) -> None:
        """Note that the user has ended a line, so the next text begins a line."""
        self._at_line_start = True

    def _line(self, line: str, style: str) -> None:
        with self._lock:
            self.end_line()
            self._write(line, style)
            self._set_style("")
            self._output.write("\n")
            self._at_line_start = True
            self._output.flush()

    def _write(self, text: str, style: str) -> None:
        visible = shown(text)
        if not visible:
            return
        with self._lock:
            self._set_style(style)
            self._output.write(visible)
            self._output.flush()
            self._at_line_start = visible.endswith("\n")

    def _set_style(self, style: str) -> None:
        if self._styled and style != self._style:
            self._output.write((_RESET if self._style else "") + style)
            self._style = style
