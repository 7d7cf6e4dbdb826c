"""The text of an answer on its way to where it is written, without what a reset repeats."""

from __future__ import annotations

from collections.abc import Callable


class AnswerText:
    """Writes the text of an answer with `write`, which can't undo anything.

    After a reset the text arrives again from its start, and only what is new of it is written. If it differs from what was
    written, `restarted` is called, and all of it is written.
    """

    def __init__(self, write: Callable[[str], None], restarted: Callable[[], None]) -> None:
        self._write = write
        self._restarted = restarted
        self._written: list[str] = []
        self._expected = ""
        self._matched = 0

    def add(self, text: str) -> None:
        """Write the next piece of the text."""
        if self._matched < len(self._expected):
            known = text[: len(self._expected) - self._matched]
            if self._expected.startswith(known, self._matched):
                self._matched += len(known)
                self._written.append(known)
                text = text[len(known) :]
            else:
                text = "".join(self._written) + text
                self._written, self._expected, self._matched = [], "", 0
                self._restarted()
        if text:
            self._written.append(text)
            self._write(text)

    def reset(self) -> None:
        """Expect the text from its start."""
        self._expected = "".join(self._written) + self._expected[self._matched :]
        self._written, self._matched = [], 0
