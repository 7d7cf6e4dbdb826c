"""The words of texts, the parsing of queries, and the snippet around a place, as properties of any text."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from store import search_text
from store.search_text import SNIPPET_CHARS, TERMS_MAX, SearchQuery, index_text, message_text, parse_query, words

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
    """Parsing never fails, is bounded, and finds a text that has the query in quotes. The fast way agrees."""
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
