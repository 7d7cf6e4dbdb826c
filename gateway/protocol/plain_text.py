"""Characters that are invisible or that control a terminal. They are refused in ids and escaped in logs.

They are Unicode's control and format characters (Cc, Cf), its line and paragraph separators (Zl, Zp), and some
unassigned characters between them.
"""

from __future__ import annotations

import re

INVISIBLE_CHARS = (
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
"""The characters, for use inside the brackets of a pattern."""

PLAIN_PATTERN = rf"\A[^{INVISIBLE_CHARS}]*\Z"
"""A pattern of text without these characters. It allows surrogates (Cs), because every decoder refuses them anyway."""

_PLAIN = re.compile(PLAIN_PATTERN)
_VISIBLE = re.compile(rf"[^\s{INVISIBLE_CHARS}]")
_ESCAPED = re.compile(f"[{INVISIBLE_CHARS}\ud800-\udfff]")


def is_plain(text: str) -> bool:
    """Return whether `text` has none of the `INVISIBLE_CHARS`."""
    return _PLAIN.search(text) is not None


def has_visible(text: str) -> bool:
    """Return whether `text` has a character that is neither white space nor one of the `INVISIBLE_CHARS`."""
    return _VISIBLE.search(text) is not None


def escape_invisible(text: str) -> str:
    r"""Return `text` on one line, with `INVISIBLE_CHARS` and surrogates escaped, as in `\x1b`, `\n` or `\u202e`."""
    if text.isprintable():
        return text
    return _ESCAPED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
