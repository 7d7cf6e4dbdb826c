"""The words that a search compares. The rules are the same for every store and every language.

A word is a run of letters and digits, without case and accents. In a language that writes no spaces, each character is a
word, and a run of characters in a query is a phrase.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct

TEXT_CHARS_MAX = 100_000
"""How much of a message is searched."""
SNIPPET_CHARS = 160
TERMS_MAX = 16
SLICE_CHARS = 4096
"""How much of a text is folded or searched in one step, so that another thread waits for less than a millisecond."""

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\ua000-\ua4cf\uf900-\ufaff\U00020000-\U0003ffff"
"""Thai, Lao, Burmese, Khmer, Chinese and Japanese. Korean writes spaces."""
_SIGNS = "\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963\u0980-\u0dff"
"""The signs of the Indian scripts, which aren't letters but parts of words."""
_WORD = re.compile(rf"[{_UNSPACED}]|(?:[^\W_{_UNSPACED}]|[{_SIGNS}])+")
_ASCII_GAPS = {code: " " for code in range(128) if not chr(code).isalnum()}
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u065f\u0670]")
"""The accents of European scripts, and the points of Hebrew and Arabic."""
_TERM = re.compile(r'(-?)"([^"]*)("?)|(-?)(\S+)')
_PIECE = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_SPACES = re.compile(r"\s+")


class SearchQuery(Struct, frozen=True):
    """A query: a text matches if it has each of `phrases` and none of `excluded`. A phrase is a sequence of words.

    With `ends_with_prefix`, the last word of the last phrase may be the beginning of a word, so that a query finds something
    while it is being typed. A query without `phrases` matches no text.
    """

    phrases: tuple[tuple[str, ...], ...]
    excluded: tuple[tuple[str, ...], ...]
    ends_with_prefix: bool

    def matches(self, text_words: list[str]) -> bool:
        """Return whether a text with the words `text_words` matches."""
        return (
            bool(self.phrases)
            and all(_place(text_words, phrase, is_prefix) is not None for phrase, is_prefix in self._with_prefix())
            and not any(_place(text_words, phrase) is not None for phrase in self.excluded)
        )

    def matches_text(self, text: str) -> bool:
        """Return whether `text` matches. This is fast for a text that doesn't have the words at all."""
        slices = [_fold(part) for _, part in _slices(text)]
        folded = "\n".join(slices)
        return all(word in folded for phrase in self.phrases for word in phrase) and self.matches(
            [word for part in slices for word in _folded_words(part)]
        )

    def first_place(self, text_words: list[str]) -> int | None:
        """Return the index in `text_words` at which a phrase begins first; None if there is no phrase in them."""
        places = (_place(text_words, phrase, is_prefix) for phrase, is_prefix in self._with_prefix())
        return min((place for place in places if place is not None), default=None)

    def _with_prefix(self) -> Iterator[tuple[tuple[str, ...], bool]]:
        """Yield each phrase, and whether its last word may be the beginning of a word."""
        last = len(self.phrases) - 1
        return ((phrase, self.ends_with_prefix and n == last) for n, phrase in enumerate(self.phrases))


def _place(text_words: list[str], phrase: tuple[str, ...], is_prefix: bool = False) -> int | None:
    """Return the index in `text_words` at which `phrase` begins first, or None.

    With `is_prefix`, its last word may be the beginning of a word.
    """
    *whole, last = phrase
    start = 0
    while True:
        if whole:
            try:
                start = text_words.index(whole[0], start)
            except ValueError:
                return None
        elif is_prefix:
            start = next((n for n in range(start, len(text_words)) if text_words[n].startswith(last)), len(text_words))
        else:
            try:
                return text_words.index(last, start)
            except ValueError:
                return None
        end = start + len(whole)
        if end >= len(text_words):
            return None
        is_last = text_words[end].startswith(last) if is_prefix else text_words[end] == last
        if is_last and text_words[start:end] == whole:
            return start
        start += 1


def words(text: str) -> list[str]:
    """Return the words of `text`, in order."""
    return [word for _, part in _slices(text) for word in _folded_words(_fold(part))]


def _folded_words(folded: str) -> list[str]:
    # In ASCII, `split` finds the same words several times as fast.
    return folded.translate(_ASCII_GAPS).split() if folded.isascii() else _WORD.findall(folded)


def index_text(text: str) -> str:
    """Return the words of the first `TEXT_CHARS_MAX` characters, separated by spaces: what a full-text index gets."""
    return " ".join(words(text[:TEXT_CHARS_MAX]))


def parse_query(query: str) -> SearchQuery:
    """Return the parsed `query`: words, `"phrases"`, and either of them after a minus; only the first `TERMS_MAX` terms."""
    phrases: list[tuple[str, ...]] = []
    excluded: list[tuple[str, ...]] = []
    ends_with_prefix = False
    for count, match in enumerate(_TERM.finditer(query)):
        if count == TERMS_MAX:
            ends_with_prefix = False
            break
        minus, quoted, closed, other_minus, term = match.groups()
        found = tuple(words(term if quoted is None else quoted))
        is_excluded = bool(minus or other_minus)
        if found:
            (excluded if is_excluded else phrases).append(found)
        is_open = match.end() == len(query) and not closed and bool(words(query[-1:]))
        ends_with_prefix = bool(found) and not is_excluded and is_open
    return SearchQuery(tuple(phrases), tuple(excluded), ends_with_prefix)


def message_text(body: bytes) -> str:
    """Return the text of a stored message's `body`: its texts and refusals. Empty if the body isn't the JSON of a message."""
    try:
        parts = _decode_body(body).parts
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    texts = (part.text for part in parts if part.kind in _TEXT_KINDS and isinstance(part.text, str))
    return "\n".join(texts)[:TEXT_CHARS_MAX]


def snippet(text: str, query: SearchQuery) -> str:
    """Return about `SNIPPET_CHARS` characters of `text` around the first place that `query` finds, in one line.

    It begins and ends with an ellipsis where text is left out.
    """
    text = text[:TEXT_CHARS_MAX]
    start = max(0, _offset(text, query) - SNIPPET_CHARS // 4)
    if start:
        space = _SPACES.search(text, start, start + SNIPPET_CHARS // 4)
        start = start if space is None else space.end()
    end = start + SNIPPET_CHARS
    if end < len(text):
        space_at = max(text.rfind(" ", end - SNIPPET_CHARS // 4, end), text.rfind("\n", end - SNIPPET_CHARS // 4, end))
        end = end if space_at < 0 else space_at
    cut = _SPACES.sub(" ", text[start:end]).strip()
    return f"{'…' if start else ''}{cut}{'…' if end < len(text) else ''}"


def _offset(text: str, query: SearchQuery) -> int:
    """Return the approximate offset in `text` of the first place that `query` finds; 0 if it finds none.

    Only the slices that have the first word of a phrase, and those after them, are split into words, each once.
    """
    slices = list(_slices(text))
    heads = {phrase[0] for phrase in query.phrases}
    longest = max(map(len, query.phrases), default=0)
    slice_words = cache(lambda n: words(slices[n][1]))
    for n, (start, part) in enumerate(slices):
        folded = _fold(part)
        if not any(head in folded for head in heads):
            continue
        found = list(slice_words(n))
        own_count, last = len(found), n
        while len(found) < own_count + longest - 1 and last + 1 < len(slices):
            last += 1
            found += slice_words(last)
        place = query.first_place(found)
        if place is not None and place < own_count:
            return start + _offset_of_word(part, place)
    return 0


def _offset_of_word(text: str, place: int) -> int:
    """Return the offset in `text` of the piece that has the word number `place`."""
    for piece in _PIECE.finditer(text):
        place -= len(words(piece[0]))
        if place < 0:
            return piece.start()
    return 0


def _slices(text: str) -> Iterator[tuple[int, str]]:
    """Yield the slices of `text`, each with its offset. A slice ends after a blank, unless there is none in it."""
    start = 0
    while len(text) - start > SLICE_CHARS:
        part = text[start : start + SLICE_CHARS]
        _, *tail = part.rsplit(None, 1)
        end = len(part.rstrip()) - len(tail[0]) if tail else SLICE_CHARS
        yield start, part[:end]
        start += end
    yield start, text[start:]


def _fold(text: str) -> str:
    """Return `text` without case, accents and variants of characters, such as wide letters."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold())).casefold())


class _Part(Struct):
    kind: str = ""
    text: Any = None


class _Body(Struct):
    parts: list[_Part] = []


_TEXT_KINDS = frozenset({"text", "refusal"})
_decode_body = msgspec.json.Decoder(_Body, float_hook=float).decode
