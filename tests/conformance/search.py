"""What a search finds."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from store import search_text
from store.api import Store
from store.errors import NotFound
from store.records import Change
from tests.conformance.base import Conformance
from tests.stored import NOW, conversation, in_many_examples, missing, new_user, say


class Searches(Conformance):
    """What a search finds."""

    many = 10_000
    """The number of conversations of a large user. A store with the same search as another store may be tested with fewer."""

    async def test_a_search_finds_titles_and_messages(self, store: Store) -> None:
        """Words are found in any case and with or without accents, phrases in order, the last word while it is typed. A
        title is found by any part of it."""
        texts = {
            "french": "Le Café est fermé, dit-il",
            "chinese": "今天天气很好。明天也不错",
            "german": "Die STRASSE ist lang",
            "hindi": "हिन्दी में लिखा",
            "quotes": 'He said "good morning" to NEAR( and went',
            "nul": "before\x00after",
            "surrogate": "lone \ud83d friend",
        }
        for name, text in texts.items():
            await store.create_conversation(conversation(name, title=f"T_{name}%"))
            await say(store, name, text)
        cases = {
            "cafe": ["french"],
            "CAFÉ": ["french"],
            "cafe\u0301 ferm": ["french"],
            "ferm ": [],
            "天气": ["chinese"],
            "气天": [],
            "天气 不错": ["chinese"],
            "straße": ["german"],
            "lang strasse": ["german"],
            '"lang strasse"': [],
            "हिन्दी": ["hindi"],
            '"good morning"': ["quotes"],
            '"good mor"': [],
            '"good mor': ["quotes"],
            "good -morning": [],
            "good -evening": ["quotes"],
            "-evening": [],
            "t_quo": ["quotes"],
            "_": ["surrogate", "nul", "quotes", "hindi", "german", "chinese", "french"],
            "s%": ["quotes"],
            '" OR 1': [],
            "*": [],
            "NEAR(": ["quotes"],
            "NEAR(a b, 3": [],
            "words : good": [],
            "owner": [],
            "good OR evening": [],
            "after": ["nul"],
            "friend": [],  # no JSON of the gateway has a lone surrogate
            '"' * 200: [],
            "good\x00morn": ["quotes"],
            "'); DROP TABLE messages; --": [],
        }
        for query, expected in cases.items():
            found, more = await store.search("ann", query, 10, None)
            assert ([one.record.id for one in found], more) == (expected, False), query
        assert (await store.search("bob", "cafe", 10, None)) == ([], False)

    async def test_a_result_names_the_newest_message_that_matches(self, store: Store) -> None:
        """A result has the text around the match, also in an old message, in another branch, or from before a clear.

        A result that matches only by its title has neither message nor text.
        """
        long = "hay " * 2000 + "Needle " + "straw " * 2000
        await store.create_conversation(conversation(title="a needle"))
        assert [(one.message, one.snippet) for one in (await store.search("ann", "needle", 9, None))[0]] == [
            (None, None)
        ]
        first = await say(store, "c1", long)
        (found,) = (await store.search("ann", "needle", 9, None))[0]
        assert (found.record, found.message) == (await store.conversation("ann", "c1"), first)
        assert found.snippet is not None
        assert found.snippet.startswith("…hay")
        assert found.snippet.endswith("straw…")
        assert "Needle" in found.snippet
        assert len(found.snippet) < 200
        for n in range(30):
            await say(store, "c1", f"line {n}", parent=first)
        await store.clear_conversation("ann", "c1", NOW)
        assert [one.message for one in (await store.search("ann", "needle", 9, None))[0]] == [first]
        second = await say(store, "c1", "another needle here")
        (found,) = (await store.search("ann", "needle", 9, None))[0]
        assert (found.message, found.snippet) == (second, "another needle here")

    async def test_a_search_finds_nothing_deleted(self, store: Store) -> None:
        """A deleted conversation isn't found, also if its id is used again."""
        for name in ("c1", "c2"):
            await store.create_conversation(conversation(name))
            await say(store, name, "needle")
        await store.delete_conversation("ann", "c1")
        await store.create_conversation(conversation("c1"))
        await store.create_conversation(conversation("c1", "bob"))
        await say(store, "c1", "needle", user="bob")
        assert [one.record.id for one in (await store.search("ann", "needle", 9, None))[0]] == ["c2"]
        await store.delete_conversation("ann", "c2")
        assert await store.search("ann", "needle", 9, None) == ([], False)
        assert len((await store.search("bob", "needle", 9, None))[0]) == 1

    async def test_a_search_is_paged_like_the_list(self, store: Store) -> None:
        """Pages follow the order of the last change; `before` may be a conversation that isn't found itself."""
        for n in range(6):
            await store.create_conversation(conversation(f"c{n}", title="needle" if n % 2 else "hay"))
            if n % 3 == 0:
                await say(store, f"c{n}", "a needle")
        await store.create_conversation(conversation("theirs", "bob", title="needle"))
        await store.update_conversation("ann", "c1", Change(), NOW)
        pages: list[list[str]] = []
        before, more = None, True
        while more:
            found, more = await store.search("ann", "needle", 2, before)
            pages.append([one.record.id for one in found])
            before = pages[-1][-1]
        assert pages == [["c1", "c5"], ["c3", "c0"]]
        assert [one.record.id for one in (await store.search("ann", "needle", 9, "c4"))[0]] == ["c3", "c0"]
        assert await store.search("ann", "needle", 9, "c0") == ([], False)
        for unknown in ("theirs", "unknown"):
            assert await missing(store.search("ann", "needle", 9, unknown)) == "before"

    async def test_a_search_in_many_conversations_delays_nobody(self, store: Store) -> None:
        """One of many conversations is found by an old message, and calls of others don't wait for that search."""
        await store.create_conversation(conversation("c0"))
        await say(store, "c0", "a needle")
        for start in range(1, self.many, 1000):
            # Ids like those that the gateway makes: for them, a store with an archive needn't look into the archive first.
            news = [conversation(f"c_{n:022}", title=f"Title {n}") for n in range(start, min(start + 1000, self.many))]
            await asyncio.gather(*map(store.create_conversation, news))
        search = asyncio.create_task(store.search("ann", "needle", 9, None))
        longest = 0.0
        while not search.done():
            began = time.perf_counter()
            with suppress(NotFound):
                await store.conversation("bob", "c1")
            longest = max(longest, time.perf_counter() - began)
            await asyncio.sleep(0.005)  # the calls mustn't take the time that the search needs
        assert [one.record.id for one in (await search)[0]] == ["c0"]
        assert longest < 0.5

    @in_many_examples
    @given(st.lists(st.text('ab é天"-', max_size=6), max_size=4), st.text('ab é天"- ', max_size=8))
    async def test_a_search_is_what_its_definition_says(self, store: Store, texts: list[str], query: str) -> None:
        """Every store finds the conversations whose text matches the parsed query, or whose title contains it."""
        user = new_user()
        expected: list[str] = []
        for n, text in enumerate(texts):
            name = f"{user}.{n}"
            title = text[::-1] + "."
            await store.create_conversation(conversation(name, user, title=title))
            await say(store, name, text, user=user)
            matches = search_text.parse_query(query).matches(search_text.words(text))
            if matches or query.casefold() in title.casefold():
                expected.insert(0, name)
        assert [one.record.id for one in (await store.search(user, query, 9, None))[0]] == expected
