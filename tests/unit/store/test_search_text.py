"""The words of texts, the parsing of queries, and the snippet around a place, as properties of any text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import search_text
from store.search_text import (
    SLICE_CHARS,
    SNIPPET_CHARS,
    TERMS_MAX,
    SearchQuery,
    index_text,
    message_text,
    parse_query,
    words,
)

texts = st.text(st.characters() | st.sampled_from("aé ß天-\"\u0301\u0e01\x00_'ﬁ")).map(lambda text: text[:200])


@given(texts)
def test_words_are_stable(text: str) -> None:
    """The text for the index has the words of the text, in any case and form, and no word has a sign or a blank."""
    found = words(text)
    assert index_text(text).split(" ") == (found or [""])
    assert words(" ".join(found)) == found
    assert words(text.lower()) == words(text.upper().lower())
    assert not set("".join(found)) & set("_-\"' \x00*()")


@given(st.text(st.characters(max_codepoint=127)))
def test_words_of_ascii(text: str) -> None:
    """The fast way for ASCII finds the words that the other way finds."""
    assert words(f"{text} \u00e9") == [*words(text), "e"]


@given(texts, texts)
def test_words_of_texts_that_a_blank_separates(one: str, two: str) -> None:
    """The words of two texts with a blank between them are the words of both, so a snippet can be found piece by piece."""
    assert words(f"{one} {two}") == words(one) + words(two)


@given(texts, texts, st.booleans())
def test_a_query_of_any_text(query: str, text: str, repeats: bool) -> None:
    """Parsing never fails and is bounded. In quotes, a query finds any text that contains it. `matches_text` agrees."""
    text = f"{text} {query} {text}" if repeats else text
    parsed = parse_query(query)
    assert len(parsed.phrases) + len(parsed.excluded) <= TERMS_MAX
    assert all(word.isalnum() or not word.isascii() for phrase in parsed.phrases for word in phrase)
    assert parsed.matches(words(text)) == parsed.matches_text(text)
    quoted = parse_query('"' + query.replace('"', " ") + '"')
    if quoted.phrases and repeats:
        assert quoted.matches(words(text.replace('"', " ")))
    snippet = search_text.snippet(text, parsed)
    assert len(snippet) <= SNIPPET_CHARS + 2
    assert "\n" not in snippet


def test_queries() -> None:
    """Words, quotes and minuses; the last word is a prefix only while it is being typed."""
    cases = {
        "": ((), (), False),
        "One two": ((("one",), ("two",)), (), True),
        "one ": ((("one",),), (), False),
        'one "two three"': ((("one",), ("two", "three")), (), False),
        'one "two thr': ((("one",), ("two", "thr")), (), True),
        "one -two": ((("one",),), (("two",),), False),
        '-"one two" three': ((("three",),), (("one", "two"),), True),
        "one-two": ((("one", "two"),), (), True),
        "one,": ((("one",),), (), False),
        "-": ((), (), False),
        " ".join("abcdefghijklmnopqrst"): (tuple((letter,) for letter in "abcdefghijklmnop"), (), False),
        "今天": ((("今", "天"),), (), True),
        '"' * 200: ((), (), False),
    }
    for query, (phrases, excluded, ends_with_prefix) in cases.items():
        assert parse_query(query) == SearchQuery(phrases, excluded, ends_with_prefix), query


@given(st.lists(texts, min_size=1, max_size=40), texts)
def test_a_text_in_slices_has_the_same_words(parts: list[str], query: str) -> None:
    """However long a text is, it has the words of its parts, and a snippet begins where the first place is."""
    text = " ".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_text, "SLICE_CHARS", 210)
        slices = list(search_text._slices(text))
        assert "".join(part for _, part in slices) == text
        assert words(text) == [word for part in parts for word in words(part)]
        parsed = parse_query(query)
        place = parsed.first_place(words(text))
        assert len(words(text[: search_text._offset(text, parsed)])) <= (place or 0)


@pytest.mark.parametrize("text", ["plain words of an answer. ", "größere Wörter. ", "今天天气很好"])
def test_no_step_of_a_search_is_long(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long text is folded in slices, so that no other thread waits, and for its snippet only once, up to the place."""
    folded: list[int] = []
    fold = search_text._fold

    def counted(part: str) -> str:
        folded.append(len(part))
        return fold(part)

    monkeypatch.setattr(search_text, "_fold", counted)
    query = parse_query("zzneedle")
    text = (text * 20_000)[:60_000] + " zzneedle and more"
    folded.clear()
    assert "zzneedle" in search_text.snippet(text, query)
    assert sum(folded) <= len(text) + 2 * SLICE_CHARS
    assert query.matches_text(text)
    assert "zzneedle" in index_text(text)
    assert max(folded) <= SLICE_CHARS


def test_a_snippet_is_around_the_place() -> None:
    """A snippet is around the match, even far into a text whose characters fold to others, or in one without blanks."""
    for text in (
        "Größe ﬁnden ß " * 2000 + "die Nadel im Heu" + " mehr" * 500,
        "今天天气很好" * 3000 + "针" + "今天" * 500,
    ):
        word = "nadel" if "Nadel" in text else "针"
        snippet = search_text.snippet(text, parse_query(word))
        assert word in snippet.lower()
        assert snippet.startswith("…")
        assert snippet.endswith("…")


def test_the_text_of_a_message() -> None:
    """The text has the texts and refusals, not the reasoning or data. A body that isn't a message has no text."""
    parts = [{"kind": kind, "text": kind} for kind in ("text", "reasoning", "refusal", "citation")]
    assert message_text(json.dumps({"parts": [*parts, {"kind": "image", "data": "QUFB"}]}).encode()) == "text\nrefusal"
    for body in (b"", b"[]", b'{"parts":1}', b"\xff", b"[" * 100_000, b'{"parts":[{"kind":"text","text":1}]}'):
        assert message_text(body) == ""
