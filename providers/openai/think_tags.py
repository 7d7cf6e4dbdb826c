"""Reasoning that a host left inside the text, as `<think>…</think>` at its start. Pure."""

from __future__ import annotations

from typing import Final, Literal

OPEN: Final = "<think>"
CLOSE: Final = "</think>"

BLANKS_MAX: Final = 1000
"""A text that begins with more blanks has no thought before it."""

Piece = tuple[Literal["reasoning", "text"], str]


class ThinkTags:
    """One text, as it comes. A tag may be split over chunks, so what could be the start of one waits."""

    def __init__(self) -> None:
        self._state: Literal["before", "entering", "thinking", "leaving", "after"] = "before"
        self._held = ""

    def feed(self, text: str) -> list[Piece]:
        """What this piece of text adds, told apart."""
        if self._state == "after":
            return [("text", text)]
        text, self._held = self._held + text, ""
        if self._state == "before":
            return self._before(text)
        if self._state == "entering":
            return self._entering(text)
        if self._state == "thinking":
            return self._thinking(text)
        return self._leaving(text)

    def close(self) -> list[Piece]:
        """What waited for the rest of a tag that never came."""
        held, self._held = self._held, ""
        return [("reasoning" if self._state == "thinking" else "text", held)] if held else []

    def _before(self, text: str) -> list[Piece]:
        start = text.lstrip()
        if start.startswith(OPEN):
            self._state = "entering"
            return self._entering(start[len(OPEN) :])
        if OPEN.startswith(start) and len(text) <= BLANKS_MAX:
            self._held = text
            return []
        self._state = "after"
        return [("text", text)]

    def _entering(self, text: str) -> list[Piece]:
        """The line breaks between the tag and the thought are of the tag."""
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
        keep = next((size for size in range(len(CLOSE) - 1, 0, -1) if text.endswith(CLOSE[:size])), 0)
        self._held = text[len(text) - keep :]
        thought = text[: len(text) - keep]
        return [("reasoning", thought)] if thought else []

    def _leaving(self, text: str) -> list[Piece]:
        """As are those between the tag and the answer."""
        text = text.lstrip("\n")
        if not text:
            return []
        self._state = "after"
        return [("text", text)]
