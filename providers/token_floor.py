"""How many tokens a request takes at the very least, by whatever tokenizer: to refuse what can't fit, and nothing else. Pure."""

from __future__ import annotations

import re
from typing import Final

from providers.base import ChatRequest, RefusalPart, TextPart, ToolCallPart, ToolResultPart

# Tokens hardly ever reach over a word's end, but for a few vocabularies in which some do; blanks are left out, as
# hundreds of them may be one token. The longest token that is known has 128 characters, the longest of Chinese,
# Japanese or Korean ones 11.
_WORDS_MAX: Final = 2
_WIDE_MAX: Final = 16
_CHARS_MAX: Final = 128
_WIDE: Final = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")


def tokens_at_least(text: str) -> int:
    """The fewest tokens that this text can be."""
    words = text.split()
    wide = 0 if text.isascii() else len(_WIDE.findall(text))
    return max(len(words) // _WORDS_MAX, wide // _WIDE_MAX, sum(map(len, words)) // _CHARS_MAX)


def surely_over(request: ChatRequest, window: int) -> bool:
    """Whether the request can't fit a window of so many tokens. Images, files and what was thought don't count."""
    texts = [request.system or ""]
    for message in request.messages:
        for part in message.parts:
            match part:
                case TextPart(text=text) | RefusalPart(text=text):
                    texts.append(text)
                case ToolCallPart():
                    texts.append(part.arguments)
                case ToolResultPart():
                    texts.append(part.output)
    # No text has more tokens, at least, than half its words, and a word has a blank behind it.
    if sum(map(len, texts)) < window * _WORDS_MAX * 2:
        return False
    return sum(map(tokens_at_least, texts)) > window
