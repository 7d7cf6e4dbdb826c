"""How many tokens a request takes at the very least, by whatever tokenizer: to refuse what can't fit, and nothing else. Pure."""

from __future__ import annotations

from typing import Final

from providers.base import ChatRequest, RefusalPart, TextPart, ToolCallPart, ToolResultPart

# Tokens hardly ever reach over a word's end, but for a few vocabularies in which some do; blanks are left out, as
# hundreds of them may be one token. The longest token that is known has 128 characters, the longest of Chinese,
# Japanese or Korean ones 11.
_WORDS_MAX: Final = 2
_WIDE_MAX: Final = 16
_CHARS_MAX: Final = 128
_SLICE_CHARS: Final = 256 * 1024
"""Of a text so much at once, until it is too long: megabytes are looked at, and nothing is made of their words."""

# Bytes of UTF-8. Kana are some of the characters behind E3; what begins with E4 to ED is an ideograph, a syllable of
# Hangul, or of a script whose characters are several tokens each.
_BLANKS: Final = b" \t\n\r\x0b\x0c"
_KANA: Final = (b"\xe3\x81", b"\xe3\x82", b"\xe3\x83")
_WIDE: Final = bytes(range(0xE4, 0xEE))
_BLANK_OR_NOT: Final = bytes(32 if byte in _BLANKS else 120 for byte in range(256))
_NOT_ASCII: Final = bytes(range(128, 256))


def token_lower_bound(text: str) -> int:
    """The fewest tokens that this text can be. Blanks that aren't ASCII may belong to a word."""
    written = text.encode("utf-8", "ignore")
    marked = written.translate(_BLANK_OR_NOT)
    words = marked.count(b" x") + marked.startswith(b"x")
    wide = 0 if len(written) == len(text) else len(written) - len(written.translate(None, _WIDE))
    wide += sum(map(written.count, _KANA)) if wide or b"\xe3" in written else 0
    plain = len(written.translate(None, _BLANKS + _NOT_ASCII))
    return max(words // _WORDS_MAX, wide // _WIDE_MAX, (plain + wide) // _CHARS_MAX)


def exceeds_window(request: ChatRequest, window: int) -> bool:
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
    tokens = 0
    for text in texts:
        for begin in range(0, len(text), _SLICE_CHARS):
            # A word that is cut in two is no more than one of them.
            tokens += max(token_lower_bound(text[begin : begin + _SLICE_CHARS]) - (begin > 0), 0)
            if tokens > window:
                return True
    return False
