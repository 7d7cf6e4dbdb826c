"""A lower bound, for any tokenizer, on a request's tokens. It rejects only requests that can't fit. This module does no I/O."""

from __future__ import annotations

from typing import Final

from providers.base import ChatRequest, RefusalPart, TextPart, ToolCallPart, ToolResultPart

# Tokens rarely cross the end of a word, except in a few vocabularies. Blanks are ignored, because one token may hold
# hundreds of them. The longest known token has 128 characters; the longest known Chinese, Japanese or Korean token
# has 11. The constants are the most that one token holds: words; Chinese, Japanese or Korean characters; any characters.
_WORDS_MAX: Final = 2
_WIDE_MAX: Final = 16
_CHARS_MAX: Final = 128
_SLICE_CHARS: Final = 256 * 1024
"""How many characters of a text are scanned at a time. Scanning stops as soon as the text is too long."""

# Bytes of UTF-8. Kana are among the characters that begin with E3. A character that begins with E4 to ED is an
# ideograph, a Hangul syllable, or part of a script whose characters take several tokens each.
_BLANKS: Final = b" \t\n\r\x0b\x0c"
_KANA: Final = (b"\xe3\x81", b"\xe3\x82", b"\xe3\x83")
_WIDE: Final = bytes(range(0xE4, 0xEE))
_BLANK_OR_NOT: Final = bytes(32 if byte in _BLANKS else 120 for byte in range(256))
_NOT_ASCII: Final = bytes(range(128, 256))


def token_lower_bound(text: str) -> int:
    """Return a number of tokens that `text` takes at least. Blanks outside ASCII are treated as part of a word."""
    written = text.encode("utf-8", "ignore")
    marked = written.translate(_BLANK_OR_NOT)
    words = marked.count(b" x") + marked.startswith(b"x")
    wide = 0 if len(written) == len(text) else len(written) - len(written.translate(None, _WIDE))
    wide += sum(map(written.count, _KANA)) if wide or b"\xe3" in written else 0
    plain = len(written.translate(None, _BLANKS + _NOT_ASCII))
    return max(words // _WORDS_MAX, wide // _WIDE_MAX, (plain + wide) // _CHARS_MAX)


def exceeds_window(request: ChatRequest, window: int) -> bool:
    """Return whether `request` can't fit a window of `window` tokens.

    Only the system prompt, texts, refusals, and the arguments and results of tool calls are counted.
    """
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
    # The lower bound is highest for words of one letter, each followed by a blank: about one token for four characters.
    if sum(map(len, texts)) < window * _WORDS_MAX * 2:
        return False
    tokens = 0
    for text in texts:
        for begin in range(0, len(text), _SLICE_CHARS):
            # A slice may cut a word in two, which would count it twice: subtract one token for it.
            tokens += max(token_lower_bound(text[begin : begin + _SLICE_CHARS]) - (begin > 0), 0)
            if tokens > window:
                return True
    return False
