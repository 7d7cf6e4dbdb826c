"""Tests of the answers that the chat in the terminal shows."""

from __future__ import annotations

import io

from gateway.commands.terminal.answer import AnswerView
from gateway.commands.terminal.screen import Screen, shown
from turnwire.client import (
    TurnDelta,
    TurnPart,
    TurnReset,
    TurnStatus,
)


def _screen(*, styled: bool = False) -> tuple[Screen, io.StringIO]:
    output = io.StringIO()
    return Screen(output, styled=styled), output


def test_a_model_cannot_control_the_terminal() -> None:
    """Escape sequences, C1 controls and marks of direction in an answer are shown as replacement characters."""
    screen, output = _screen()
    view = AnswerView(screen)
    view.show(TurnPart(part=0, kind="text"))
    view.show(TurnDelta(part=0, text="a\x1b]52;c;aGk=\x07b\x9bc\u202ed\r\n\te"))
    assert output.getvalue() == "a\ufffd]52;c;aGk=\ufffdb\ufffdc\ufffdd\n\te"
    assert shown("\0\x7f") == "\ufffd\ufffd"


def test_reasoning_is_faint_and_tool_calls_are_shown() -> None:
    """Each kind begins a line. Long arguments are cut, once."""
    screen, output = _screen(styled=True)
    view = AnswerView(screen)
    view.show(TurnPart(part=0, kind="reasoning"))
    view.show(TurnDelta(part=0, text="Hm."))
    view.show(TurnPart(part=1, kind="text"))
    view.show(TurnDelta(part=1, text="Yes."))
    view.show(TurnPart(part=2, kind="tool_call", call="c", name="search"))
    for _ in range(5):
        view.show(TurnDelta(part=2, text="x" * 1000))
    screen.end_line()
    assert output.getvalue() == f"\x1b[2mHm.\x1b[0m\nYes.\n\x1b[2mtool call: search {'x' * 2000}…\x1b[0m\n"


def test_a_replay_shows_nothing_twice() -> None:
    """Reasoning, notes and text that were shown before a reset aren't shown again."""
    screen, output = _screen()
    view = AnswerView(screen)
    for _ in range(2):
        view.show(TurnPart(part=0, kind="reasoning"))
        view.show(TurnDelta(part=0, text="Hm."))
        view.show(TurnPart(part=1, kind="citation", title="T", url="https://t.example/"))
        view.show(TurnPart(part=2, kind="text", text="Yes."))
        view.show(TurnReset())
    assert output.getvalue() == "Hm.\nsource: T: https://t.example/\nYes."


def test_the_progress_is_told() -> None:
    """A status that the user should know is a sentence in its own line."""
    screen, output = _screen()
    view = AnswerView(screen)
    view.show(TurnStatus(status="running"))
    view.show(TurnStatus(status="retrying", attempt=2, delay_ms=1500))
    view.show(TurnStatus(status="fallback", model="m2"))
    assert output.getvalue() == "The provider failed. Attempt 2 follows in 1.5 s.\nThe model m2 is asked instead.\n"
