"""The lower bound of a text's tokens: never above a real tokenizer's count, and high enough to reject long requests."""

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
    ids=[
        "empty",
        "white space",
        "a line",
        "a sentence",
        "words",
        "chinese",
        "brackets",
        "kana",
        "wide spaces",
        "russian",
    ],
)
def test_bound_is_at_most_the_real_count(text: str, tokens: int) -> None:
    """The bound is at most `tokens`, the count of the most compact known vocabulary."""
    assert token_lower_bound(text) <= tokens


@pytest.mark.parametrize(
    "text",
    ["word " * 5000, "\u4f60" * 20_000, "x" * 200_000, "\ud55c\uad6d\uc5b4 " * 5000, "\u3042\u30a2" * 10_000],
    ids=["en", "zh", "run", "ko", "ja"],
)
def test_text_that_exceeds_the_window(text: str) -> None:
    """A text of over a thousand tokens exceeds a window of that size, wherever it is in the request."""
    over = (
        request_with(TextPart(text)),
        request_with(TextPart("x"), system=text),
        request_with(ToolResultPart("c", text)),
        request_with(ToolCallPart("c", "f", text)),
        request_with(*[TextPart(text[: len(text) // 4])] * 4),
    )
    assert all(exceeds_window(request, 1000) for request in over)
    assert not any(exceeds_window(request, 20_000) for request in over)


def test_only_text_is_counted() -> None:
    """Images, files and reasoning aren't counted: their tokens are unknown, and reasoning may not be sent at all."""
    data = "word " * 5000
    image, file = ImagePart("image/png", data=data), FilePart("application/pdf", data=data)
    assert not exceeds_window(request_with(image, file, ReasoningPart(data), TextPart("Hi")), 1000)


def test_slicing_a_long_word_adds_no_tokens() -> None:
    """A long text is counted in slices, and slicing adds no tokens."""
    slices = 8
    word = "x" * (_SLICE_CHARS * slices)
    least_tokens = _SLICE_CHARS * slices // 128
    assert exceeds_window(request_with(TextPart(word)), least_tokens - slices)
    assert not exceeds_window(request_with(TextPart(word)), least_tokens)
