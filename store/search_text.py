"""What a search compares: the words of a text, the same in every store and in every language.

A word is a run of letters and digits, without case. Languages that write no spaces have no such words, so each of their
characters is a word, and a run of them in a query is a phrase.
"""

from __future__ import annotations

import re
import unicodedata

from msgspec import Struct

TEXT_CHARS_MAX = 100_000
"""How much of a message is searched."""
SNIPPET_CHARS = 160
TERMS_MAX = 16

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\ua000-\ua4cf\uf900-\ufaff\U00020000-\U0003ffff"
"""Thai, Lao, Burmese, Khmer, Chinese and Japanese. Korean writes spaces."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_TERM = re.compile(r'(-?)"([^"]*)"?|(-?)(\S+)')


class SearchQuery(Struct, frozen=True):
    """A query: a text matches if it has each of `phrases` and none of `excluded`. A phrase is a sequence of words.

    The last word of the last phrase is a prefix, so that a query finds something while it is being typed, unless the query
    ends with a quote or a space.
    """

    phrases: tuple[tuple[str, ...], ...]
    excluded: tuple[tuple[str, ...], ...]
    ends_with_prefix: bool


def words(text: str) -> list[str]:
    """Return the words of `text`, in order."""
    return _WORD.findall(_fold(text))


def index_text(text: str) -> str:
    """Return the words of the first `TEXT_CHARS_MAX` characters, separated by spaces: what a full-text index gets."""
    return " ".join(words(text[:TEXT_CHARS_MAX]))


def parse_query(query: str) -> SearchQuery:
    """Return what `query` asks for: words, `"phrases"`, and either of them after a minus. The first `TERMS_MAX` terms count."""
    phrases: list[tuple[str, ...]] = []
    excluded: list[tuple[str, ...]] = []
    for match in list(_TERM.finditer(query))[:TERMS_MAX]:
        minus, quoted, other_minus, term = match.groups()
        found = tuple(words(term if quoted is None else quoted))
        if found:
            (excluded if minus or other_minus else phrases).append(found)
    ends_with_prefix = bool(phrases) and query[-1:] not in {'"', " "}
    return SearchQuery(tuple(phrases), tuple(excluded), ends_with_prefix)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
