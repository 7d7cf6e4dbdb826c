"""The seam of an answer that broke off: whatever the continuation repeats, the joined text is the whole text."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.retry.seam import AnotherAnswer, Seam

WORDS = [
    "river",
    "stone",
    "Answer:",
    "löwe",
    "the",
    "of",
    "a",
    "**bold**",
    "12,5",
    "end.",
    "今天天气",
    "return",
    "x=1;",
    "`code`",
]
BLANKS = [" ", " ", " ", "\n", "\n\n", "\n    "]


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Return a text whose words all differ, so that only a continuation can repeat them."""
    count = draw(st.integers(4, 40))
    pieces = []
    for number in range(count):
        pieces.append(f"{draw(st.sampled_from(WORDS))}{number}")
        pieces.append(draw(st.sampled_from(BLANKS)))
    return "".join(pieces[:-1])


def join(said: str, continuation: str, cuts: list[int], **fields: bool) -> str:
    """Return `said` with the continuation, which arrives in pieces."""
    seam = Seam(said, **fields)
    at = sorted({0, len(continuation), *(cut % (len(continuation) + 1) for cut in cuts)})
    joined = [said, *(seam.feed(continuation[one:other]) for one, other in zip(at, at[1:], strict=False)), seam.close()]
    return "".join(joined)


def last_words(said: str, count: int) -> str:
    """Return the last `count` words of `said`, without the blank after them."""
    stripped = said.rstrip()
    starts = [0, *(at + 1 for at, char in enumerate(stripped) if char.isspace())]
    return stripped[starts[-min(count, len(starts))] :]


def lead_of(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


STYLES: dict[str, Callable[[str, str, int], str]] = {
    "exact": lambda said, rest, count: rest,
    "the blank again": lambda said, rest, count: said[len(said.rstrip()) :] + rest,
    "last words": lambda said, rest, count: last_words(said, count) + said[len(said.rstrip()) :] + rest,
    "blank and last words": lambda said, rest, count: (
        "\n" + last_words(said, count) + said[len(said.rstrip()) :] + rest
    ),
    "all of it": lambda said, rest, count: said + rest,
}


@given(
    texts(), st.integers(1, 10_000), st.integers(2, 30), st.sampled_from(sorted(STYLES)), st.lists(st.integers(0, 999))
)
def test_the_joined_text_is_the_whole(whole: str, split: int, count: int, style: str, cuts: list[int]) -> None:
    """For any split of a text, the result is the same however much a continuation repeats, and in whatever pieces."""
    said, rest = whole[: split % len(whole)], whole[split % len(whole) :]
    if not said.strip():
        return
    if "last words" in style and sum(char.isalnum() for char in last_words(said, count)) < 4:
        return
    fields = {"echoes": style == "all of it", "stripped": style == "the blank again"}
    assert join(said, STYLES[style](said, rest, count), cuts, **fields) == whole


@given(texts(), st.integers(1, 10_000), st.integers(1, 30), st.lists(st.integers(0, 999)))
def test_a_model_that_was_asked_to_repeat(whole: str, split: int, count: int, cuts: list[int]) -> None:
    """A model that repeats the last words as it was asked continues exactly, also in the middle of a word."""
    said, rest = whole[: split % len(whole)], whole[split % len(whole) :]
    repeated = last_words(said, count)
    if sum(char.isalnum() for char in repeated) < 2:
        return
    assert join(said, repeated + said[len(said.rstrip()) :] + rest, cuts, asked=True) == whole


@given(texts(), st.integers(1, 10_000), st.lists(st.integers(0, 999)))
def test_a_missing_blank(whole: str, split: int, cuts: list[int]) -> None:
    """A chat model begins its answer without a blank. After an instruction, the blank between two words is added."""
    words = whole.split()
    at = 1 + split % (len(words) - 1)
    said, rest = " ".join(words[:at]), " ".join(words[at:])
    if not said[-1].isalnum() or rest[0] == said[-1] or not rest[0].isascii() or not rest[0].isalnum():
        return
    assert join(said, rest, cuts, asked=True) == f"{said} {rest}"
    assert join(said + " ", rest, cuts) == f"{said} {rest}"


@pytest.mark.parametrize(
    ("said", "continuation", "whole"),
    [
        ("Hel", "lo", "Hello"),
        ("Hello ", "world", "Hello world"),
        ("Hello ", " world", "Hello world"),
        ("Hello", " world", "Hello world"),
        ("The quick brown", "brown fox", "The quick brown fox"),
        ("The quick brown ", "quick brown fox", "The quick brown fox"),
        ("The quick bro", "quick brown fox", "The quick brown fox"),
        # A text may repeat words itself. These stay.
        ("</div>\n</div>\n", "</div>\n</div>", "</div>\n</div>\n</div>\n</div>"),
        ("ha ", "ha ha!", "ha ha ha!"),
        ("0, 0, ", "0, 0]", "0, 0, 0, 0]"),
        ("tell me why, tell me why, ", "tell me why, now", "tell me why, tell me why, tell me why, now"),
        ("<span><span>a</span>", "</span>", "<span><span>a</span></span>"),
        ("a,true,", "true,false", "a,true,true,false"),
        ("[0, null,", " null, 3]", "[0, null, null, 3]"),
        # A blank of several characters that is written again.
        ("One.\n\n", "\n\nTwo.", "One.\n\nTwo."),
        ("def f():\n    ", "\n    return 1", "def f():\n    return 1"),
        # Indentation
        ("def f():\n  ", "  return 1", "def f():\n    return 1"),
        ("One.\n", "\nTwo.", "One.\n\nTwo."),
        ("def f():\n", "    return 1", "def f():\n    return 1"),
        ("One.", "\n\nTwo.", "One.\n\nTwo."),
        ("One. ", "\n\nTwo.", "One. \n\nTwo."),
        ("我们今天去公园", "今天去公园玩", "我们今天去公园玩"),
        ("Complete.", "", "Complete."),
        ("Complete. ", "  ", "Complete.  "),
    ],
)
def test_seams(said: str, continuation: str, whole: str) -> None:
    """Each continuation is joined correctly, in one piece and in single characters."""
    assert join(said, continuation, []) == whole
    assert join(said, continuation, list(range(200))) == whole


@pytest.mark.parametrize(
    ("continuation", "whole"),
    [
        ("<<<The quick brown>>> fox", "The quick brown fox"),
        ("<<<quick brown fox", "The quick brown fox"),
        ("<<<The quick brown>>>", "The quick brown"),
        ("...quick brown fox", "The quick brown fox"),
        ("… quick brown fox", "The quick brown fox"),
        ("... fox", "The quick brown... fox"),
        ("<<< fox", "The quick brown<<< fox"),
        ("..", "The quick brown.."),
        ("quick brown>>> fox", "The quick brown>>> fox"),
    ],
)
def test_marks_around_a_repetition(continuation: str, whole: str) -> None:
    """A model may copy the marks of the instruction, or begin with an ellipsis. These are left out if it repeats words."""
    for cuts in ([], list(range(200))):
        assert join("The quick brown", continuation, cuts, asked=True) == whole


def test_another_answer_is_no_continuation() -> None:
    """If a model begins again and then says something else, the seam raises before a word of that is passed on."""
    said = "Once upon a time there was a king who had three daughters, and the youngest of them was kind."
    seam = Seam(said)
    with pytest.raises(AnotherAnswer):
        seam.feed(said[:70])
        seam.feed(" something else")


def test_a_repetition_that_breaks_off() -> None:
    """A continuation that ends within the words that it was asked to repeat adds nothing."""
    seam = Seam("The quick brown fox", asked=True)
    assert seam.feed("quick br") + seam.close() == ""


def test_long_texts_take_little_time() -> None:
    """The text that is held back is bounded by what was said, and the work is linear: for an echo of 2 MB, and for a text
    that repeats one letter 100,000 times."""
    said = "".join(f"word {number} " for number in range(200_000))
    begin = time.perf_counter()
    assert join(said, said + "end", list(range(0, len(said), 4000)), echoes=True) == said + "end"
    assert join("a" * 100_000, "a" * 100_000 + "b", list(range(0, 100_000, 50))).endswith("b")
    assert join("- " * 50_000, "- " * 50_000, list(range(0, 100_000, 50))).startswith("- -")
    assert Seam("Hi").feed(" " * 10_000) == " " * 10_000
    assert time.perf_counter() - begin < 10
