"""The fewest tokens of a text: never more than a real tokenizer finds, and enough to refuse what can't fit."""

from __future__ import annotations

import pytest

from providers.base import (
    ChatMessage,
    ChatRequest,
    FilePart,
    ImagePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from providers.token_lower_bound import _SLICE_CHARS, exceeds_window, token_lower_bound


def request_with(*parts: Part, system: str | None = None) -> ChatRequest:
    return ChatRequest(model="m", messages=(ChatMessage("user", parts),), system=system)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        (" " * 10_000 + "\n" * 10_000, 0),
        ("=" * 128, 1),
        ("Hello, how are you today?", 6),
        ("the " * 1000, 1000),
        ("\u4f60\u597d" * 11, 4),
        ("{}" * 64, 1),
        ("\u3042\u308a\u304c\u3068\u3046" * 11, 11),
        ("\u3000" * 128, 1),
        ("\u043c\u0438\u0440 " * 10, 10),
    ],
    ids=["nothing", "blanks", "a line", "a sentence", "words", "chinese", "brackets", "kana", "wide blanks", "russian"],
)
def test_never_more_than_there_are(text: str, tokens: int) -> None:
    """`tokens`: what the densest known vocabulary makes of it."""
    assert token_lower_bound(text) <= tokens


@pytest.mark.parametrize(
    "text",
    ["word " * 5000, "\u4f60" * 20_000, "x" * 200_000, "\ud55c\uad6d\uc5b4 " * 5000, "\u3042\u30a2" * 10_000],
    ids=["en", "zh", "run", "ko", "ja"],
)
def test_what_cannot_fit(text: str) -> None:
    """Five thousand words are over a thousand tokens, wherever in the request they stand."""
    over = (
        request_with(TextPart(text)),
        request_with(TextPart("x"), system=text),
        request_with(ToolResultPart("c", text)),
        request_with(ToolCallPart("c", "f", text)),
        request_with(*[TextPart(text[: len(text) // 4])] * 4),
    )
    assert all(exceeds_window(request, 1000) for request in over)
    assert not any(exceeds_window(request, 20_000) for request in over)


def test_what_is_no_text_takes_no_room_here() -> None:
    """Nobody can say how many tokens an image or a file is; what was thought may not be sent at all."""
    data = "word " * 5000
    image, file = ImagePart("image/png", data=data), FilePart("application/pdf", data=data)
    assert not exceeds_window(request_with(image, file, ReasoningPart(data), TextPart("Hi")), 1000)


def test_a_word_that_is_cut_is_one() -> None:
    """A long text is looked at in slices; that makes no tokens."""
    slices = 8
    word = "x" * (_SLICE_CHARS * slices)
    least = _SLICE_CHARS * slices // 128
    assert exceeds_window(request_with(TextPart(word)), least - slices)
    assert not exceeds_window(request_with(TextPart(word)), least)
