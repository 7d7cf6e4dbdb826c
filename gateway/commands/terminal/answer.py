"""The events of a turn, shown on the screen as they arrive."""

from __future__ import annotations

from gateway.commands.terminal.answer_text import AnswerText
from gateway.commands.terminal.screen import Screen
from gateway.commands.terminal.turn_notes import status_note
from turnwire.client import (
    TurnDelta,
    TurnEvent,
    TurnPart,
    TurnReset,
    TurnStatus,
)

ARGUMENT_CHARS_MAX = 2000
"""How much of a tool call's arguments is shown."""
_CALL = "tool call: "


class AnswerView:
    """Shows one answer on a screen: its text, its reasoning in faint letters, and notes about the rest."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._text = AnswerText(self._write_text, self._restart)
        self._faint = AnswerText(self._write_faint, screen.end_line)
        self._section = ""
        self._notes: set[str] = set()
        self._kinds: dict[int, str] = {}
        self._argument_chars = 0

    def show(self, event: TurnEvent) -> None:
        """Show an event. Endings and unknown events show nothing."""
        if isinstance(event, TurnDelta):
            self._delta(event)
        elif isinstance(event, TurnPart):
            self._part(event)
        elif isinstance(event, TurnStatus):
            if note := status_note(event):
                self._screen.note(note)
        elif isinstance(event, TurnReset):
            self._kinds.clear()
            self._text.reset()
            self._faint.reset()

    def _part(self, event: TurnPart) -> None:
        self._kinds[event.part] = event.kind
        if event.kind == "tool_call":
            self._argument_chars = 0
            self._faint.add(f"{_CALL}{event.name or ''} ")
        elif event.kind == "image":
            self._note(f"image ({event.media_type or 'of an unknown type'}): {event.url or ''}")
        elif event.kind == "citation":
            self._note(f"source: {': '.join(filter(None, (event.title, event.url)))}")
        elif event.text:
            self._show_text(event.kind, event.text)

    def _delta(self, event: TurnDelta) -> None:
        if event.text:
            self._show_text(self._kinds.get(event.part, "text"), event.text)

    def _show_text(self, kind: str, text: str) -> None:
        if kind in {"text", "refusal"}:
            self._text.add(text)
        elif kind == "reasoning":
            self._faint.add(text)
        elif kind == "tool_call":
            piece = text[: max(0, ARGUMENT_CHARS_MAX - self._argument_chars)]
            if piece != text and self._argument_chars <= ARGUMENT_CHARS_MAX:
                piece += "…"
            self._argument_chars += len(text)
            self._faint.add(piece)

    def _write_text(self, text: str) -> None:
        self._begin("text")
        self._screen.text(text)

    def _write_faint(self, text: str) -> None:
        self._begin("tool call" if text.startswith(_CALL) else "faint")
        self._screen.faint(text)

    def _begin(self, section: str) -> None:
        """Begin a line if what is written next isn't more of the same. Each tool call has a line."""
        if section != self._section:
            self._screen.end_line()
        self._section = "faint" if section == "tool call" else section

    def _note(self, note: str) -> None:
        if note not in self._notes:  # otherwise it was shown before a reset
            self._notes.add(note)
            self._screen.note(note)

    def _restart(self) -> None:
        self._screen.note("The model begins its answer again.")
