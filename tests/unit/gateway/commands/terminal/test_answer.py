"""Tests of the answers that the chat in the terminal shows."""

from __future__ import annotations

import io

import pytest

from gateway.commands.terminal.answer import AnswerText, AnswerView, ending_note, money
from gateway.commands.terminal.screen import Screen, shown
from turnwire.client import (
    Cost,
    Timing,
    TurnCancelled,
    TurnCompleted,
    TurnDelta,
    TurnPart,
    TurnReset,
    TurnStatus,
    Usage,
)


@pytest.mark.parametrize(
    ("before", "after", "written"),
    [
        ((), ("a", "b"), "ab"),
        (("abc",), ("a", "bcd", "e"), "abcde"),  # the replay continues what was written
        (("abc", "d"), ("abcd",), "abcd"),
        (("abc",), ("abx", "y"), "abc|abxy"),  # another answer
        (("abc",), ("a", "b", "x"), "abc|abx"),
    ],
)
def test_text_is_not_written_twice_after_a_reset(before: tuple[str, ...], after: tuple[str, ...], written: str) -> None:
    """After a reset, only what follows the written text is written; or all of it, if the text differs."""
    out: list[str] = []
    text = AnswerText(out.append, lambda: out.append("|"))
    for piece in before:
        text.add(piece)
    text.reset()
    for piece in after:
        text.add(piece)
    assert "".join(out) == written


def test_a_second_reset_in_the_middle_of_a_replay_loses_nothing() -> None:
    """The text that was written before is still known."""
    out: list[str] = []
    text = AnswerText(out.append, lambda: out.append("|"))
    text.add("abcdef")
    text.reset()
    text.add("abc")
    text.reset()
    text.add("abcdefg")
    assert "".join(out) == "abcdefg"


def test_a_million_small_pieces_after_a_reset_take_linear_time() -> None:
    """8 MiB are matched in pieces of 8 characters."""
    out: list[str] = []
    text = AnswerText(out.append, lambda: None)
    text.add("12345678" * 2**20)
    text.reset()
    for _ in range(2**17):
        text.add("12345678")
    assert len(out) == 1


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


def test_the_ending_is_told() -> None:
    """The line after an answer has why it isn't complete, its tokens, its cost and its time."""
    usage, cost, timing = Usage(input_tokens=1200, output_tokens=3), Cost("0.001230000"), Timing(total_ms=1234)
    done = ending_note(TurnCompleted(finish_reason="stop", usage=usage, cost=cost, timing=timing))
    assert done == "1,200 tokens in, 3 out · $0.00123 · 1.2 s"
    assert ending_note(TurnCompleted(finish_reason="length")).startswith("The answer was cut off")
    assert ending_note(TurnCancelled(by="client")) == "Stopped."
    assert "(limit)" in ending_note(TurnCancelled(by="limit"))
    assert [money(Cost(amount)) for amount in ("0.000000", "2.50", "3")] == ["$0", "$2.5", "$3"]
