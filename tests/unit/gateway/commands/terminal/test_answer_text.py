"""Tests of the text that is written once, although a reset repeats it."""

from __future__ import annotations

import pytest

from gateway.commands.terminal.answer_text import AnswerText


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
