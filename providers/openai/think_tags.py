"""The separation of reasoning that a host sends as `<think>…</think>` at the start of the text. This module does no I/O."""

from __future__ import annotations

from typing import Final, Literal

OPEN: Final = "<think>"
CLOSE: Final = "</think>"

BLANKS_MAX: Final = 1000
"""The maximum number of characters, blanks and a piece of the tag, that are held back until the tag is complete."""

Piece = tuple[Literal["reasoning", "text"], str]


class ThinkTags:
    """An incremental parser of one text. It holds back a possible start of a tag, which may be split over chunks."""

    def __init__(self) -> None:
        self._state: Literal["before", "entering", "thinking", "leaving", "after"] = "before"
        self._pending = ""

    def feed(self, text: str) -> list[Piece]:
        """Return the pieces of reasoning and text that `text` adds."""
        if self._state == "after":
            return [("text", text)]
        text, self._pending = self._pending + text, ""
        if self._state == "before":
            return self._before(text)
        if self._state == "entering":
            return self._entering(text)
        if self._state == "thinking":
            return self._thinking(text)
        return self._leaving(text)

    def close(self) -> list[Piece]:
        """Return the text that was held back for the rest of a tag."""
        pending, self._pending = self._pending, ""
        return [("reasoning" if self._state == "thinking" else "text", pending)] if pending else []

    def _before(self, text: str) -> list[Piece]:
        start = text.lstrip()
        if start.startswith(OPEN):
            self._state = "entering"
            return self._entering(start[len(OPEN) :])
        if OPEN.startswith(start) and len(text) <= BLANKS_MAX:
            self._pending = text
            return []
        self._state = "after"
        return [("text", text)]

    def _entering(self, text: str) -> list[Piece]:
        """Skip the line breaks between the opening tag and the reasoning."""
        text = text.lstrip("\n")
        if not text:
            return []
        self._state = "thinking"
        return self._thinking(text)

    def _thinking(self, text: str) -> list[Piece]:
        thought, tag, rest = text.partition(CLOSE)
        if tag:
            self._state = "leaving"
            pieces: list[Piece] = [("reasoning", thought)] if thought else []
            return pieces + self._leaving(rest)
        held = next((size for size in range(len(CLOSE) - 1, 0, -1) if text.endswith(CLOSE[:size])), 0)
        self._pending = text[len(text) - held :]
        thought = text[: len(text) - held]
        return [("reasoning", thought)] if thought else []

    def _leaving(self, text: str) -> list[Piece]:
        """Skip the line breaks between the closing tag and the answer."""
        text = text.lstrip("\n")
        if not text:
            return []
        self._state = "after"
        return [("text", text)]
