"""The events of a turn, written to a screen or to a pipe as they arrive."""

from __future__ import annotations

from collections.abc import Callable

from gateway.commands.terminal.screen import Screen
from turnwire.client import (
    Cost,
    Timing,
    TurnCancelled,
    TurnCompleted,
    TurnDelta,
    TurnEvent,
    TurnPart,
    TurnReset,
    TurnStatus,
    Usage,
)

ARGUMENT_CHARS_MAX = 2000
"""How much of a tool call's arguments is shown."""
_CALL = "tool call: "
_CUT = {
    "length": "The answer was cut off, because it reached the limit of its length.",
    "content_filter": "The provider's filter has cut off the answer.",
    "tool_calls": "The model waits for the results of its tools, which this chat doesn't run.",
}


class AnswerText:
    """The text of an answer on its way to `write`, which can't take anything back.

    After a reset the text comes again from its start. It isn't written twice: only what follows the text that was
    written. If it differs from that text, `restarted` is called, and all of it is written.
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


def status_note(event: TurnStatus) -> str:
    """Return the sentence about the progress of a turn; empty if the user needn't know."""
    match event.status:
        case "queued":
            return f"Waiting for your other turns (position {event.position})."
        case "waiting":
            return "The provider has sent nothing yet. Ctrl-C stops the turn."
        case "retrying":
            return f"The provider failed. Attempt {event.attempt} follows in {(event.delay_ms or 0) / 1000:.3g} s."
        case "fallback":
            return f"The model {event.model} is asked instead."
        case "continued":
            return f"The answer broke off. {event.model} continues it."
        case "trimmed":
            return f"The conversation is too long for the model: the oldest {event.messages} messages were left out."
        case _:
            return ""


def ending_note(event: TurnCompleted | TurnCancelled) -> str:
    """Return the sentences about an ending: how it ended if it isn't complete, its tokens, its cost and its time."""
    sentence = ""
    if isinstance(event, TurnCancelled):
        sentence = "Stopped." if event.by == "client" else f"Stopped by the gateway ({event.by})."
    else:
        sentence = _CUT.get(event.finish_reason or "", "")
    return " ".join(filter(None, (sentence, figures(event.usage, event.cost, event.timing))))


def figures(usage: Usage | None, cost: Cost | None, timing: Timing | None = None) -> str:
    """Return tokens, cost and seconds in one line; empty if none of them is known."""
    found = []
    if usage is not None:
        about = "About " if usage.estimated else ""
        found.append(f"{about}{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out")
    if cost is not None:
        found.append(money(cost))
    if timing is not None:
        found.append(f"{timing.total_ms / 1000:.1f} s")
    return " · ".join(found)


def money(cost: Cost) -> str:
    """Return an amount with its currency, without the zeros at its end."""
    amount = cost.amount.rstrip("0").rstrip(".") if "." in cost.amount else cost.amount
    return f"${amount or '0'}" if cost.currency == "USD" else f"{amount or '0'} {cost.currency}"
