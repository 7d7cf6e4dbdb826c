"""Characters that nobody sees and that a terminal may obey: refused in ids, escaped in logs.

They are Unicode's control and format characters (Cc, Cf) and its separators of lines and paragraphs (Zl, Zp).
"""

from __future__ import annotations

import re

UNSEEN = (
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
"""As in the brackets of a pattern."""

PLAIN = rf"\A[^{UNSEEN}]*\Z"
"""A pattern of text without them. Half characters (Cs) needn't be in it: no decoder lets them in."""

_PLAIN = re.compile(PLAIN)
_ESCAPED = re.compile(f"[{UNSEEN}\ud800-\udfff]")


def is_plain(text: str) -> bool:
    """Whether none of them is in it."""
    return _PLAIN.search(text) is not None


def escaped(text: str) -> str:
    r"""The same on one line, with `\x1b`, `\n` or `\u202e` where such a character was."""
    if text.isprintable():
        return text
    return _ESCAPED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
