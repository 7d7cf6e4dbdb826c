"""The conformance tests of the `Store` protocol. The test class of each kind of store inherits them.

They use only the `Store` protocol. A subclass defines the fixture `open_store`, a function that returns one more open
store on the same data, as for one more instance of the gateway. The data is empty at first, and the subclass closes the
stores. A store that isn't `shared` is opened once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from store import search_text
from store.api import Store, conversation_channel, instance_channel, list_channel, turn_channel, user_permits
from store.errors import Busy, Conflict, Fenced, Limited, LogGap, NotFound, StoreError
from store.records import (
    DAY_MS,
    PINNED_MAX,
    Accepted,
    Append,
    Appended,
    Change,
    ConversationRecord,
    Counters,
    DayUsage,
    EndedTurn,
    FeedbackFilter,
    FeedbackRecord,
    LogEntry,
    MessageRecord,
    NewTurn,
    TurnLimits,
    TurnRecord,
)
from tests.examples import examples
from tests.in_time import check_in_time, checks_time_limit

OpenStore = Callable[[], Awaitable[Store]]

NOW = 1_795_247_464_000
HOUR = 3_600_000
LONG_MS = 60_000
SHORT_MS = 60
DEADLINE_S = 5
_numbers = itertools.count(1)

in_many_examples = settings(
    max_examples=examples(10),
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)


def conversation(name: str = "c1", user: str = "ann", at: int = NOW, **fields: Any) -> ConversationRecord:
    """Return the record of a new conversation."""
    blank: dict[str, Any] = {"title": "", "system": None, "model": None, "metadata": b"{}", "head": None}
    return ConversationRecord(id=name, user=user, revision=0, created_ms=at, updated_ms=at, **{**blank, **fields})


def message(name: str, **fields: Any) -> MessageRecord:
    """Return a message, by default one of the user."""
    return MessageRecord(
        **{"id": name, "parent": None, "role": "user", "created_ms": NOW, "body": name.encode(), **fields}
    )


def new_turn(turn: str = "t1", user: str = "ann", **fields: Any) -> NewTurn:
    """Return a new turn in conversation `c1` that instance `one` owns; the ids of its messages begin with its id."""
    common: dict[str, Any] = {
        "owner": "one",
        "lease_ms": LONG_MS,
        "digest": b"digest",
        "request": b"{}",
        "epoch": NOW,
        "message": f"{turn}.answer",
        "stateless": False,
        "conversation": "c1",
        "new_conversation": None,
        "title": "A title",
        "input": message(f"{turn}.question", turn=turn),
        "parent": None,
        "on_busy": "parallel",
        "model": "demo",
        "now_ms": NOW + next(_numbers),
    }
    return NewTurn(user=user, turn=turn, **{**common, **fields})


def stateless_turn(turn: str = "t1", user: str = "ann", **fields: Any) -> NewTurn:
    """Return a new turn without a conversation."""
    return new_turn(turn, user, stateless=True, conversation=None, input=None, **fields)


def piece(turn: TurnRecord, first: int, last: int, **fields: Any) -> Append:
    """Return an append of a turn's events `first` to `last`, by default in the turn's epoch."""
    epoch = fields.pop("epoch", turn.epoch)
    payload = fields.pop("payload", f"{epoch}:{first}-{last}".encode())
    return Append(turn.user, turn.turn, epoch, first, last, payload)


def entry(append: Append) -> LogEntry:
    """Return the log entry that an append creates."""
    return LogEntry(append.epoch, append.first, append.last, append.payload)


def ending(turn: TurnRecord, **fields: Any) -> EndedTurn:
    """Return the ending of a completed turn; its events continue the turn's log up to seq 9."""
    common: dict[str, Any] = {
        "epoch": turn.epoch,
        "status": "completed",
        "events": piece(turn, turn.seq + 1, 9, epoch=fields.get("epoch", turn.epoch)),
        "ending": b"the ending",
        "answer": message(turn.message, parent=turn.parent, role="assistant", turn=turn.turn),
        "usage": Counters(1, 2, 3, 4, 5, 6),
        "now_ms": NOW + next(_numbers),
    }
    return EndedTurn(user=turn.user, turn=turn.turn, **{**common, **fields})


def body(text: str) -> bytes:
    """Return the body of a message with this text, as the gateway stores it."""
    encoded = json.dumps(
        {"parts": [{"kind": "image", "media_type": "image/png", "data": "QQ=="}, {"kind": "text", "text": text}]}
    )
    return encoded.encode()


async def say(store: Store, name: str, text: str, user: str = "ann", parent: str | None = None) -> str:
    """Store a message with this text in the conversation `name`. Return the id of the message."""
    turn = f"s{next(_numbers)}"
    said = message(f"{turn}.said", body=body(text), turn=turn)
    await run(store, new_turn(turn, user, conversation=name, input=said, parent=parent))
    return said.id


def new_user() -> str:
    """Return the id of a user that no example has used."""
    return f"user{next(_numbers)}"


async def run(store: Store, new: NewTurn, **fields: Any) -> EndedTurn:
    """Accept a turn and end it."""
    ended = ending((await store.accept(new)).turn, **fields)
    await store.end(ended)
    return ended


async def running(store: Store, new: NewTurn | None = None) -> TurnRecord:
    """Accept a turn, by default a stateless turn of ann, and return its record."""
    return (await store.accept(new or stateless_turn())).turn


async def append(store: Store, *appends: Append) -> list[str]:
    """Append to logs, and return the outcomes."""
    return [appended.outcome for appended in await store.append(list(appends))]


async def limited(answer: Awaitable[object]) -> tuple[str, int | None]:
    """Return the limit that the call exceeds, and after how many ms a retry is possible."""
    with pytest.raises(Limited) as refused:
        await answer
    return refused.value.limit, refused.value.retry_after_ms


async def missing(answer: Awaitable[object]) -> str:
    """Return the field that the store's `NotFound` names."""
    with pytest.raises(NotFound) as raised:
        await answer
    return raised.value.field


async def eventually(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Call `condition` until its result is true, and return the result. Raises `TimeoutError`."""
    async with asyncio.timeout(DEADLINE_S):
        while not (answer := await condition()):
            await asyncio.sleep(0.01)
        return answer


class Received:
    """The deliveries of a store: (channel, payload) in order. `reconnects` counts the calls of `on_reconnect`."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.reconnects = 0

    def deliver(self, channel: str, payload: bytes) -> None:
        """Record a delivery."""
        self.queue.put_nowait((channel, payload))

    def reconnected(self) -> None:
        """Count a call of `on_reconnect`."""
        self.reconnects += 1

    async def next(self) -> tuple[str, bytes]:
        """Return the next delivery. Raises `TimeoutError`."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.queue.get()


@asynccontextmanager
async def listening(store: Store) -> AsyncIterator[Received]:
    """Run the store's pub/sub until the end of the block."""
    received = Received()
    task = asyncio.get_running_loop().create_task(store.run_pubsub(received.deliver, received.reconnected))
    try:
        yield received
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), "run_pubsub ended before it was cancelled"


READS_AND_WRITES: dict[str, tuple[Callable[[Store, str], Awaitable[object]], str]] = {
    "conversation": (lambda store, user: store.conversation(user, "c1"), "conversation"),
    "messages": (lambda store, user: store.messages(user, "c1", 10, None), "conversation"),
    "active": (lambda store, user: store.active(user, "c1"), "conversation"),
    "update": (lambda store, user: store.update_conversation(user, "c1", Change(title="x"), NOW), "conversation"),
    "clear": (lambda store, user: store.clear_conversation(user, "c1", NOW), "conversation"),
    "delete": (lambda store, user: store.delete_conversation(user, "c1"), "conversation"),
    "usage": (lambda store, user: store.usage(user, "c1", None), "conversation"),
    "message": (lambda store, user: store.message(user, "t1.answer"), "message"),
    "feedback": (lambda store, user: store.put_feedback(user, "t1.answer", "up", None, NOW), "message"),
    "branch": (lambda store, user: store.branch(user, "c1", "t1.answer"), "parent"),
    "turn": (lambda store, user: store.turn(user, "t1"), "turn"),
    "claim": (lambda store, user: store.claim(user, "t1", "two", NOW, LONG_MS, force=True), "turn"),
    "request_cancel": (lambda store, user: store.request_cancel(user, "t1", b"stop"), "turn"),
    "list": (lambda store, user: store.conversations(user, 10, "c1"), "before"),
}
"""Calls for a user with an id that belongs to ann, and the field that `NotFound` names if the user is another one."""


class SearchConformance:
    """What a search finds, in every store."""

    many = 10_000
    """The number of conversations of a large user. A store with the same search as another store may be tested with fewer."""

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> Store:
        """An open store without data."""
        return await open_store()

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


class HistoryConformance(SearchConformance):
    """What has to do with the history: conversations, messages, feedback and usage, and the turns that change them."""

    # --- accepting ---

    async def test_a_turn_is_accepted_with_its_input(self, store: Store) -> None:
        """Law 6: accepting stores the turn and its input, and changes the conversation's revision and number of messages."""
        await store.create_conversation(conversation())
        accepted = await store.accept(new_turn())
        assert accepted.is_new
        turn = accepted.turn
        assert (turn.user, turn.turn, turn.conversation, turn.status) == ("ann", "t1", "c1", "running")
        assert (turn.message, turn.input, turn.parent, turn.model) == (
            "t1.answer",
            "t1.question",
            "t1.question",
            "demo",
        )
        assert (turn.digest, turn.request, turn.owner, turn.seq) == (b"digest", b"{}", "one", 0)
        assert (turn.ending, turn.stateless_message, turn.cancel) == (None, None, None)
        assert turn.epoch >= NOW
        assert accepted.ahead == ()
        assert accepted.input == message("t1.question", turn="t1")
        assert accepted.conversation == await store.conversation("ann", "c1")
        assert accepted.conversation is not None
        assert accepted.conversation.revision == 1
        assert accepted.conversation.messages == 1
        assert await store.turn("ann", "t1", with_request=True) == turn
        assert await store.turn("ann", "t1") == msgspec.structs.replace(turn, request=None)
        assert await store.message("ann", "t1.question") == accepted.input

    async def test_a_start_without_a_conversation_creates_one(self, store: Store) -> None:
        """A start that names no conversation creates one, and the turn's title becomes its title."""
        new = new_turn(conversation=None, new_conversation=conversation("c9", model="demo", system="Be brief."))
        accepted = await store.accept(new)
        assert accepted.turn.conversation == "c9"
        stored = await store.conversation("ann", "c9")
        assert (stored.title, stored.model, stored.system, stored.head) == ("A title", "demo", "Be brief.", None)

    async def test_a_start_creates_its_conversation_if_that_is_missing(self, store: Store) -> None:
        """If the turn's conversation doesn't exist, `new_conversation` is created. Later starts leave it unchanged.

        A start that is refused creates no conversation.
        """
        made = conversation("mine", model="demo")
        accepted = await store.accept(new_turn(conversation="mine", new_conversation=made))
        assert accepted.conversation is not None
        assert (accepted.conversation.id, accepted.conversation.model) == ("mine", "demo")
        again = new_turn(
            "t2", conversation="mine", new_conversation=conversation("mine", model="other"), on_busy="queue"
        )
        accepted = await store.accept(again)
        assert accepted.ahead == ("t1",)
        assert (await store.conversation("ann", "mine")).model == "demo"
        assert (await store.conversations("ann", 9, None))[0] == [await store.conversation("ann", "mine")]
        wrong = new_turn("t3", conversation="new", new_conversation=conversation("new"), parent="t1.question")
        assert await missing(store.accept(wrong)) == "parent"
        assert await missing(store.conversation("ann", "new")) == "conversation"

    async def test_a_repeated_start_returns_the_existing_turn(self, store: Store) -> None:
        """Law 6: a start with the same id and the same content returns the existing turn and changes nothing."""
        await store.create_conversation(conversation())
        first = await store.accept(new_turn())
        again = await store.accept(
            new_turn(message="other.answer", input=message("other.question"), epoch=NOW + 5, owner="two")
        )
        assert not again.is_new
        assert msgspec.structs.replace(again.turn, request=first.turn.request) == first.turn
        assert await missing(store.message("ann", "other.question")) == "message"
        assert (await store.conversation("ann", "c1")).messages == 1

    async def test_a_repeated_start_returns_an_ended_turn(self, store: Store) -> None:
        """Law 6: the id of an ended turn still refers to that turn."""
        await store.create_conversation(conversation())
        await run(store, new_turn())
        again = await store.accept(new_turn(message="other.answer", input=message("other.question")))
        assert not again.is_new
        assert (again.turn.status, again.turn.ending) == ("completed", b"the ending")
        with pytest.raises(Conflict):
            await store.accept(new_turn(digest=b"other"))

    async def test_the_same_id_with_other_content_is_a_conflict(self, store: Store) -> None:
        """Law 6: a start with the id of a different request is refused, and nothing of it is stored."""
        await store.create_conversation(conversation())
        await store.accept(new_turn())
        with pytest.raises(Conflict):
            await store.accept(new_turn(digest=b"other", input=message("other.question")))
        assert await missing(store.message("ann", "other.question")) == "message"

    async def test_turn_ids_are_scoped_to_the_user(self, store: Store) -> None:
        """Law 12: two users can use the same turn id for different turns."""
        await store.create_conversation(conversation())
        await store.create_conversation(conversation("c2", "bob"))
        await store.accept(new_turn())
        other = await store.accept(
            new_turn(user="bob", conversation="c2", digest=b"o", input=message("b.question"), message="b.answer")
        )
        assert other.is_new

    async def test_of_concurrent_starts_one_is_new(self, store: Store) -> None:
        """Law 6: accepting is atomic; concurrent starts with the same id return the one turn that was accepted."""
        await store.create_conversation(conversation())
        starts = [store.accept(new_turn(message=f"a{n}", input=message(f"q{n}"))) for n in range(8)]
        accepted = await asyncio.gather(*starts)
        assert sorted(one.is_new for one in accepted) == [False] * 7 + [True]
        assert len({one.turn.message for one in accepted}) == 1

    @pytest.mark.parametrize("where", [{"conversation": "nowhere"}, {"user": "bob"}])
    async def test_a_turn_in_an_unknown_conversation_is_refused(self, store: Store, where: dict[str, str]) -> None:
        """Law 12: a conversation that doesn't exist or is another user's isn't found; the turn's id stays unused."""
        await store.create_conversation(conversation())
        assert await missing(store.accept(new_turn(**where))) == "conversation"
        assert await missing(store.turn(where.get("user", "ann"), "t1")) == "turn"

    async def test_a_parent_must_be_in_the_conversation(self, store: Store) -> None:
        """Law 12: the parent can't be an unknown message, or one of another conversation or user."""
        for name, user in (("c1", "ann"), ("c2", "ann"), ("c3", "bob")):
            await store.create_conversation(conversation(name, user))
            await run(store, new_turn(f"in-{name}", user, conversation=name))
        for parent in ("unknown", "in-c2.answer", "in-c3.answer"):
            assert await missing(store.accept(new_turn(parent=parent))) == "parent"
        assert await missing(store.turn("ann", "t1")) == "turn"
        accepted = await store.accept(new_turn(parent="in-c1.question"))
        assert accepted.input is not None
        assert accepted.input.parent == "in-c1.question"

    async def test_a_turn_without_input_answers_its_parent_again(self, store: Store) -> None:
        """A turn without input whose `parent` is a user message regenerates: its answer is a child of that message."""
        await store.create_conversation(conversation())
        await run(store, new_turn("first"))
        again = await store.accept(new_turn("again", input=None, parent="first.question"))
        assert (again.input, again.turn.input) == (None, None)
        assert again.turn.parent == "first.question"

    async def test_only_the_first_turn_sets_the_title(self, store: Store) -> None:
        """The first turn's title becomes that of a conversation without a title; an existing title is unchanged."""
        await store.create_conversation(conversation())
        await store.create_conversation(conversation("c2", title="Mine"))
        await store.accept(new_turn("a", title="First"))
        await store.accept(new_turn("b", title="Second"))
        await store.accept(new_turn("c", conversation="c2", title="Third"))
        assert (await store.conversation("ann", "c1")).title == "First"
        assert (await store.conversation("ann", "c2")).title == "Mine"

    # --- a busy conversation ---

    async def test_a_parallel_turn_does_not_wait(self, store: Store) -> None:
        """`parallel`: the new turn answers the head and doesn't wait for the running one."""
        await store.create_conversation(conversation())
        await run(store, new_turn("old"))
        await store.accept(new_turn("one"))
        two = await store.accept(new_turn("two"))
        assert two.ahead == ()
        assert two.input is not None
        assert two.input.parent == "old.answer"

    async def test_a_queued_turn_answers_the_turn_ahead(self, store: Store) -> None:
        """`queue`: accepting returns the turns ahead, oldest first; the parent is the answer of the newest of them."""
        await store.create_conversation(conversation())
        one = await store.accept(new_turn("one", on_busy="queue"))
        assert one.ahead == ()
        two = await store.accept(new_turn("two", on_busy="queue"))
        three = await store.accept(new_turn("three", on_busy="queue"))
        assert (two.ahead, three.ahead) == (("one",), ("one", "two"))
        assert two.input is not None
        assert two.input.parent == "one.answer"
        assert three.input is not None
        assert three.input.parent == "two.answer"
        await store.end(ending(one.turn))
        four = await store.accept(new_turn("four", on_busy="queue"))
        assert four.ahead == ("two", "three")
        assert four.turn.status == "running"

    async def test_a_queued_turn_may_name_its_parent(self, store: Store) -> None:
        """A given parent is used even if other turns are ahead."""
        await store.create_conversation(conversation())
        await run(store, new_turn("old"))
        await store.accept(new_turn("one"))
        two = await store.accept(new_turn("two", on_busy="queue", parent="old.question"))
        assert two.ahead == ("one",)
        assert two.input is not None
        assert two.input.parent == "old.question"

    async def test_a_start_can_be_rejected_by_a_busy_conversation(self, store: Store) -> None:
        """`reject`: while a turn runs in the conversation, a start is refused and nothing of it is stored."""
        await store.create_conversation(conversation())
        first = await store.accept(new_turn("one", on_busy="reject"))
        with pytest.raises(Busy):
            await store.accept(new_turn("two", on_busy="reject"))
        assert await missing(store.turn("ann", "two")) == "turn"
        assert await missing(store.message("ann", "two.question")) == "message"
        assert not (await store.accept(new_turn("one", on_busy="reject", message="other"))).is_new
        await store.end(ending(first.turn))
        assert (await store.accept(new_turn("two", on_busy="reject"))).is_new

    async def test_active_turns_are_those_without_an_ending(self, store: Store) -> None:
        """Active turns are listed in the order of acceptance, for one conversation or for all of a user's turns."""
        await store.create_conversation(conversation())
        await store.create_conversation(conversation("c2"))
        assert await store.active("ann", "c1") == []
        turns = [await running(store, new_turn(name)) for name in ("z", "a", "m")]
        await store.accept(new_turn("elsewhere", conversation="c2"))
        await store.accept(stateless_turn("nowhere"))
        assert await store.active("ann", "c1") == ["z", "a", "m"]
        await store.end(ending(turns[1]))
        assert await store.active("ann", "c1") == ["z", "m"]
        assert await store.active("ann", None) == ["z", "m", "elsewhere", "nowhere"]
        await store.delete_conversation("ann", "c2")
        assert await store.active("ann", None) == ["z", "m", "elsewhere", "nowhere"]
        assert await store.active("bob", None) == []

    # --- limits of the history ---

    async def test_a_conversation_has_a_budget(self, store: Store) -> None:
        """A conversation's token budget is never renewed; it doesn't affect other conversations."""
        limits = TurnLimits(conversation_tokens=3)
        for name in ("c1", "c2"):
            await store.create_conversation(conversation(name))
        await run(store, new_turn("a", limits=limits))
        assert await limited(store.accept(new_turn("b", limits=limits))) == ("conversation_tokens", None)
        assert (await store.accept(new_turn("b", conversation="c2", limits=limits))).is_new
        assert (await store.accept(stateless_turn("c", limits=limits))).is_new

    async def test_conversations_have_a_limit(self, store: Store) -> None:
        """The limit is for new conversations, with or without a turn. Existing conversations accept turns, and deleted
        ones no longer count."""
        limits = TurnLimits(conversations=2)
        await store.create_conversation(conversation("c1"), limits)
        fresh: dict[str, Any] = {"conversation": None, "limits": limits}
        await store.accept(new_turn("t1", new_conversation=conversation("c2"), **fresh))
        assert await limited(store.create_conversation(conversation("c3"), limits)) == ("conversations", None)
        assert await limited(store.accept(new_turn("t2", new_conversation=conversation("c3"), **fresh))) == (
            "conversations",
            None,
        )
        await store.accept(new_turn("t2", limits=limits))
        await store.accept(stateless_turn("t3", limits=limits))
        await store.create_conversation(conversation("b1", "bob"), limits)
        await store.delete_conversation("ann", "c1")
        await store.accept(new_turn("t4", new_conversation=conversation("c3"), **fresh))

    async def test_a_conversation_that_exists_is_within_the_limits(self, store: Store) -> None:
        """Creating a conversation again, or starting a turn that may create it, needs no room for another one."""
        limits = TurnLimits(conversations=1)
        first = await store.create_conversation(conversation(title="First"), limits)
        assert await store.create_conversation(conversation(title="Second"), limits) == first
        await store.accept(new_turn(new_conversation=conversation(), limits=limits))
        other = new_turn("t2", conversation="c2", new_conversation=conversation("c2"), limits=limits)
        assert await limited(store.accept(other)) == ("conversations", None)

    async def test_stored_bytes_have_a_limit(self, store: Store) -> None:
        """Titles, system prompts, metadata, messages and answers count; deleted or shortened data no longer does."""
        limits, full = TurnLimits(stored_bytes=10_000), ("stored_bytes", None)

        async def one_more(size: int) -> tuple[str, int | None]:
            return await limited(store.accept(new_turn("t2", input=message("q2", body=b"x" * size), limits=limits)))

        await store.create_conversation(conversation(metadata=b"m" * 3000), limits)
        large = message("q1", turn="t1", body=b"x" * 6000)
        turn = (await store.accept(new_turn(input=large, limits=limits))).turn
        assert await one_more(1000) == full
        grown = store.update_conversation("ann", "c1", Change(system="s" * 1000), NOW, limits)
        assert await limited(grown) == full
        another = store.create_conversation(conversation("c2", metadata=b"m" * 1000), limits)
        assert await limited(another) == full
        answer = message(turn.message, parent=turn.parent, role="assistant", body=b"y" * 3500)
        await store.end(ending(turn, answer=answer))
        assert await one_more(1) == full
        await store.update_conversation("ann", "c1", Change(metadata=b"{}"), NOW, limits)
        assert await one_more(1000) == full
        await store.accept(new_turn("t2", input=message("q2", body=b"x" * 400), limits=limits))
        await store.accept(stateless_turn("t3", limits=limits))
        await store.create_conversation(conversation("b1", "bob", metadata=b"m" * 9000), limits)
        await store.delete_conversation("ann", "c1")
        await store.create_conversation(conversation("c3", metadata=b"m" * 9900), limits)

    # --- ending ---

    async def test_an_ending_is_stored_with_answer_usage_and_head(self, store: Store) -> None:
        """Law 3: one call stores the last events, the ending, the answer, the usage and the head."""
        await store.create_conversation(conversation())
        turn = await running(store, new_turn())
        await store.append([piece(turn, 1, 3)])
        last = piece(turn, 4, 9)
        stored = await store.end(ending(turn, events=last))
        assert stored == await store.conversation("ann", "c1")
        assert stored is not None
        assert (stored.head, stored.revision, stored.messages) == ("t1.answer", 2, 2)
        assert stored.usage == Counters(1, 2, 3, 4, 5, 6)
        ended = await store.turn("ann", "t1", with_request=True)
        assert (ended.status, ended.seq, ended.ending) == ("completed", 9, b"the ending")
        assert (ended.stateless_message, ended.request) == (None, None)
        answer = await store.message("ann", "t1.answer")
        assert (answer.parent, answer.role, answer.turn) == ("t1.question", "assistant", "t1")
        assert await store.active("ann", "c1") == []
        assert await store.log("ann", "t1", 0) == [entry(piece(turn, 1, 3)), entry(last)]

    async def test_ending_again_changes_nothing(self, store: Store) -> None:
        """Law 3: after a repeated ending, or another one, the first ending stays, and its usage is counted once."""
        await store.create_conversation(conversation())
        turn = await running(store, new_turn())
        first = ending(turn)
        before = await store.end(first)
        assert await store.end(first) == before
        assert await store.end(ending(turn, status="failed", ending=b"another")) == before
        assert (await store.turn("ann", "t1")).ending == b"the ending"
        assert (await store.usage("ann", None, None)).input_tokens == 1
        assert await store.log("ann", "t1", 0) == [entry(piece(turn, 1, 9))]

    async def test_only_the_current_owner_may_end_a_turn(self, store: Store) -> None:
        """Law 9: an ending by a former owner is refused. A turn that is unknown or another user's isn't found."""
        await store.create_conversation(conversation())
        turn = await running(store, new_turn())
        claimed = await store.claim("ann", "t1", "two", NOW, LONG_MS, force=True)
        assert claimed is not None
        with pytest.raises(Fenced):
            await store.end(ending(turn))
        assert await missing(store.end(ending(msgspec.structs.replace(turn, turn="unknown")))) == "turn"
        assert await missing(store.end(ending(msgspec.structs.replace(turn, user="bob")))) == "turn"
        unchanged = await store.turn("ann", "t1")
        assert (unchanged.ending, unchanged.status, unchanged.seq) == (None, "running", 0)
        await store.end(ending(claimed))
        with pytest.raises(Fenced):
            await store.end(ending(turn, ending=b"another"))
        assert (await store.turn("ann", "t1")).ending == b"the ending"

    async def test_an_ending_must_continue_the_log(self, store: Store) -> None:
        """Law 1: an ending with a hole, or one that overlaps the log's end, changes nothing and returns the end.

        An ending whose events are all in the log already is stored.
        """
        await store.create_conversation(conversation())
        turn = await running(store, new_turn())
        await store.append([piece(turn, 1, 3)])
        for first, last in ((5, 6), (3, 6), (1, 6)):
            with pytest.raises(LogGap) as raised:
                await store.end(ending(turn, events=piece(turn, first, last)))
            assert raised.value.end == 3
        assert (await store.turn("ann", "t1")).ending is None
        assert await missing(store.message("ann", "t1.answer")) == "message"
        await store.append([piece(turn, 4, 6)])
        await store.end(ending(turn, events=piece(turn, 4, 6)))
        assert [one.last for one in await store.log("ann", "t1", 0)] == [3, 6]

    async def test_an_ending_that_only_the_log_has(self, store: Store) -> None:
        """If the log already has the ending's events, the next owner stores the ending without events. Its position must be the
        end of the log. Nothing is written twice."""
        await store.create_conversation(conversation())
        turn = await running(store, new_turn(lease_ms=0))
        await store.append([piece(turn, 1, 3)])
        claimed = await store.claim("ann", "t1", "two", NOW + 1, LONG_MS)
        assert claimed is not None
        for first, last in ((3, 2), (5, 4)):
            with pytest.raises(LogGap):
                await store.end(ending(claimed, events=piece(claimed, first, last)))
        for _ in range(2):
            await store.end(ending(claimed, events=piece(claimed, 4, 3, payload=b"")))
        assert [one.last for one in await store.log("ann", "t1", 0)] == [3]
        ended = await store.turn("ann", "t1")
        assert (ended.status, ended.seq, ended.ending) == ("completed", 3, b"the ending")
        assert (await store.message("ann", "t1.answer")).role == "assistant"

    async def test_the_head_follows_each_ending(self, store: Store) -> None:
        """Each stored ending moves the head; by default the next turn's parent is the head."""
        await store.create_conversation(conversation())
        await run(store, new_turn("first"))
        second = await store.accept(new_turn("second"))
        assert second.input is not None
        assert second.input.parent == "first.answer"
        await run(store, new_turn("third"))
        assert (await store.conversation("ann", "c1")).head == "third.answer"

    async def test_after_a_clear_an_older_turn_does_not_move_the_head(self, store: Store) -> None:
        """The answer of a turn that was running during the clear is stored; later turns begin without a parent."""
        await store.create_conversation(conversation())
        old = await running(store, new_turn("old"))
        cleared = await store.clear_conversation("ann", "c1", NOW)
        assert cleared.head is None
        queued = await store.accept(new_turn("queued", on_busy="queue"))
        assert queued.ahead == ("old",)
        assert queued.input is not None
        assert queued.input.parent is None
        await store.end(ending(old))
        assert (await store.conversation("ann", "c1")).head is None
        later = await store.accept(new_turn("later"))
        assert later.input is not None
        assert later.input.parent is None
        await store.end(ending(later.turn))
        assert (await store.conversation("ann", "c1")).head == "later.answer"
        assert len((await store.messages("ann", "c1", 50, None))[0]) == 5

    async def test_a_turn_in_a_deleted_conversation_ends(self, store: Store) -> None:
        """The turn ends and its usage counts, but its answer isn't stored."""
        await store.create_conversation(conversation())
        turn = await running(store, new_turn())
        await store.delete_conversation("ann", "c1")
        assert await store.end(ending(turn)) is None
        ended = await store.turn("ann", "t1")
        assert (ended.status, ended.conversation, ended.stateless_message) == ("completed", None, None)
        assert await missing(store.message("ann", "t1.answer")) == "message"
        assert (await store.usage("ann", None, None)).output_tokens == 2

    async def test_a_stateless_turn_has_no_conversation(self, store: Store) -> None:
        """The answer of a stateless turn is stored with the turn, and no conversation or message is created."""
        accepted = await store.accept(stateless_turn())
        assert (accepted.conversation, accepted.input, accepted.turn.conversation) == (None, None, None)
        assert accepted.turn.parent is None
        assert await store.end(ending(accepted.turn)) is None
        assert (await store.turn("ann", "t1")).stateless_message == b"t1.answer"
        assert await missing(store.message("ann", "t1.answer")) == "message"
        assert (await store.conversations("ann", 10, None)) == ([], False)
        assert (await store.usage("ann", None, None)).output_tokens == 2

    # --- reading ---

    async def test_a_branch_begins_at_the_root(self, store: Store) -> None:
        """`branch` returns the messages from the root to the given one, without those of other branches."""
        await store.create_conversation(conversation())
        await run(store, new_turn("a"))
        await run(store, new_turn("b"))
        await run(store, new_turn("side", parent="a.answer"))
        branch, older = await store.branch("ann", "c1", "b.answer")
        assert [one.id for one in branch] == ["a.question", "a.answer", "b.question", "b.answer"]
        assert older == 0
        side, _ = await store.branch("ann", "c1", "side.question")
        assert [one.id for one in side] == ["a.question", "a.answer", "side.question"]
        assert await store.branch("ann", "c1", None) == ([], 0)
        assert await missing(store.branch("ann", "c1", "unknown")) == "parent"

    async def test_a_branch_has_a_byte_limit(self, store: Store) -> None:
        """A branch has the newest messages that fit in the given bytes, and always the last one."""
        await store.create_conversation(conversation())
        for turn in ("a", "b"):
            await run(store, new_turn(turn))
        branch, _ = await store.branch("ann", "c1", "b.answer")
        sizes = [len(one.body) for one in branch]
        for count in range(1, 5):
            room = sum(sizes[-count:])
            assert await store.branch("ann", "c1", "b.answer", room) == (branch[-count:], 4 - count)
            fewer = max(1, count - 1)
            assert await store.branch("ann", "c1", "b.answer", room - 1) == (branch[-fewer:], 4 - fewer)

    async def test_a_branch_has_a_count_limit(self, store: Store) -> None:
        """A branch has at most the given number of messages, the newest ones, and always the last one."""
        await store.create_conversation(conversation())
        for turn in ("a", "b"):
            await run(store, new_turn(turn))
        branch, _ = await store.branch("ann", "c1", "b.answer")
        last_two = sum(len(one.body) for one in branch[-2:])
        for limit in range(6):
            count = min(max(limit, 1), 4)
            assert await store.branch("ann", "c1", "b.answer", None, limit) == (branch[-count:], 4 - count)
            count = min(count, 2)
            assert await store.branch("ann", "c1", "b.answer", last_two, limit) == (branch[-count:], 4 - count)

    async def test_a_long_branch_is_complete(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """A branch of 240 messages is returned completely, or its newest part, also if it is read in many steps."""
        await store.create_conversation(conversation())
        for n in range(120):
            await run(store, new_turn(f"t{n}"))
        whole, _ = await store.branch("ann", "c1", "t119.answer")
        assert [one.id for one in whole] == [f"t{n}.{kind}" for n in range(120) for kind in ("question", "answer")]
        monkeypatch.setattr("store.redis.history.BRANCH_STEP", 30)
        monkeypatch.setattr("store.sqlite.history.SHORT_BRANCH", 30)
        for last in (240, 60, 31, 30, 29):
            for count in (last, 59, 30, 29, 1):
                kept = whole[max(last - count, 0) : last]
                size = sum(len(one.body) for one in kept)
                for limits in ((size, None), (None, count), (size, count), (size, last)):
                    assert await store.branch("ann", "c1", whole[last - 1].id, *limits) == (kept, last - len(kept))

    async def test_messages_are_paged_newest_page_first(self, store: Store) -> None:
        """The newest page is read first, and each page is sorted oldest first. For the next page, `before` is the first
        message of the page that was read last."""
        await store.create_conversation(conversation())
        for n in range(3):
            await run(store, new_turn(f"t{n}"))
        every = [f"t{n}.{kind}" for n in range(3) for kind in ("question", "answer")]
        read: list[str] = []
        before: str | None = None
        for limit, more in ((4, True), (1, True), (1, False)):
            page, has_more = await store.messages("ann", "c1", limit, before)
            assert has_more is more
            read = [one.id for one in page] + read
            before = read[0]
        assert read == every
        assert await store.messages("ann", "c1", 10, before) == ([], False)
        assert [one.id for one in (await store.messages("ann", "c1", 6, None))[0]] == every

    async def test_a_page_of_messages_has_a_byte_limit(self, store: Store) -> None:
        """A page has the newest messages that fit in the given bytes, and at least one."""
        await store.create_conversation(conversation())
        for turn in ("a", "b"):
            await run(store, new_turn(turn))
        every, _ = await store.messages("ann", "c1", 10, None)
        sizes = [len(one.body) for one in every]
        for count in range(1, 5):
            room = sum(sizes[-count:])
            assert await store.messages("ann", "c1", 10, None, room) == (every[-count:], count < 4)
            fewer = max(1, count - 1)
            assert await store.messages("ann", "c1", 10, None, room - 1) == (every[-fewer:], fewer < 4)
        assert await store.messages("ann", "c1", 2, None, sum(sizes)) == (every[-2:], True)
        assert await store.messages("ann", "c1", 2, every[0].id, 1) == ([], False)

    async def test_before_must_be_a_message_of_the_conversation(self, store: Store) -> None:
        """Law 12: `before`, and the last message of a branch, must be messages of that conversation."""
        await store.create_conversation(conversation())
        await store.create_conversation(conversation("c2"))
        await run(store, new_turn("other", conversation="c2"))
        for before in ("unknown", "other.question"):
            assert await missing(store.messages("ann", "c1", 10, before)) == "before"
        assert await missing(store.branch("ann", "c1", "other.question")) == "parent"

    async def test_conversations_are_listed_last_changed_first(self, store: Store) -> None:
        """Conversations are listed in pages, the last changed one first. Of two that changed at the same time, the one that was
        created later comes first."""
        for n in range(5):
            await store.create_conversation(conversation(f"c{n}", at=NOW + n // 2))
        await store.create_conversation(conversation("theirs", "bob"))
        await store.update_conversation("ann", "c1", Change(title="x"), NOW + 10)
        expected = ["c1", "c4", "c3", "c2", "c0"]
        read: list[str] = []
        before = None
        for more in (True, True, False):
            page, has_more = await store.conversations("ann", 2, before)
            assert has_more is more
            read += [one.id for one in page]
            before = read[-1]
        assert read == expected
        assert await store.conversations("ann", 2, before) == ([], False)
        assert await missing(store.conversations("ann", 2, "theirs")) == "before"
        assert await missing(store.conversations("ann", 2, "unknown")) == "before"

    async def test_no_clock_orders_conversations(self, store: Store) -> None:
        """The last changed conversation comes first in lists and their pages, even if the gateway's clock is behind, or was
        far ahead."""
        ahead, behind = NOW + 10**11, NOW - 10**11
        for n, at in enumerate((NOW, ahead, behind, NOW)):
            await store.create_conversation(conversation(f"c{n}", at=at))

        async def pages() -> list[str]:
            first, _ = await store.conversations("ann", 2, None)
            return [one.id for one in first + (await store.conversations("ann", 9, first[-1].id))[0]]

        assert await pages() == ["c3", "c2", "c1", "c0"]
        await store.update_conversation("ann", "c2", Change(title="x"), behind)
        assert await pages() == ["c2", "c3", "c1", "c0"]
        await store.clear_conversation("ann", "c0", behind)
        assert await pages() == ["c0", "c2", "c3", "c1"]
        turn = await running(store, new_turn(conversation="c3", now_ms=behind))
        assert await pages() == ["c3", "c0", "c2", "c1"]
        await store.update_conversation("ann", "c1", Change(title="x"), NOW)
        await store.end(ending(turn, now_ms=behind))
        assert await pages() == ["c3", "c1", "c0", "c2"]
        await store.delete_conversation("ann", "c3")
        await store.accept(new_turn("t2", conversation=None, new_conversation=conversation("c4", at=behind)))
        assert await pages() == ["c4", "c1", "c0", "c2"]
        assert [one.record.id for one in (await store.search("ann", "", 2, "c1"))[0]] == ["c0", "c2"]

    async def test_pinned_conversations_keep_their_place(self, store: Store) -> None:
        """A pin alone moves nothing and changes no time; with another change, the conversation moves. A page may list only the
        pinned ones. A deleted conversation and another user's are in no list."""
        for n in range(4):
            await store.create_conversation(conversation(f"c{n}", at=NOW + n))
        await store.create_conversation(conversation("c0", "bob"))

        async def ids(limit: int = 9, before: str | None = None, *, pinned: bool = False) -> list[str]:
            return [one.id for one in (await store.conversations("ann", limit, before, pinned=pinned))[0]]

        pinned = await store.update_conversation("ann", "c1", Change(pinned=True), NOW + 9)
        assert (pinned.pinned, pinned.revision, pinned.updated_ms) == (True, 1, NOW + 1)
        await store.update_conversation("ann", "c3", Change(pinned=True), NOW + 9)
        assert (await ids(), await ids(pinned=True)) == (["c3", "c2", "c1", "c0"], ["c3", "c1"])
        assert (await ids(1, None, pinned=True), await ids(1, "c3", pinned=True)) == (["c3"], ["c1"])
        assert (await store.conversations("ann", 1, None, pinned=True))[1]
        assert await missing(store.conversations("ann", 2, "unknown", pinned=True)) == "before"
        await store.update_conversation("ann", "c1", Change(title="x", pinned=True), NOW + 9)
        assert (await ids(), await ids(pinned=True)) == (["c1", "c3", "c2", "c0"], ["c1", "c3"])
        await run(store, new_turn(conversation="c3"))
        assert ((await store.conversation("ann", "c3")).pinned, await ids(pinned=True)) == (True, ["c3", "c1"])
        await store.update_conversation("ann", "c3", Change(pinned=False), NOW + 9)
        assert (await ids(), await ids(pinned=True)) == (["c3", "c1", "c2", "c0"], ["c1"])
        await store.delete_conversation("ann", "c1")
        await store.create_conversation(conversation("c1"))
        assert (await ids(pinned=True), (await store.conversation("ann", "c1")).pinned) == ([], False)
        assert (await store.conversations("bob", 9, None, pinned=True))[0] == []

    async def test_a_title_replaces_only_the_named_one(self, store: Store) -> None:
        """If the conversation has another title by now, nothing of the change is applied, and nothing moves."""
        for name in ("c1", "c2"):
            await store.create_conversation(conversation(name, title="Old", at=NOW))
        before = await store.conversation("ann", "c1")
        late = Change(title="New", system="S", pinned=True, replaced_title="Older")
        assert await store.update_conversation("ann", "c1", late, NOW + 9) == before
        assert [one.id for one in (await store.conversations("ann", 9, None))[0]] == ["c2", "c1"]
        changed = await store.update_conversation("ann", "c1", Change(title="New", replaced_title="Old"), NOW + 9)
        assert (changed.title, changed.revision) == ("New", 1)
        await store.update_conversation("ann", "c1", Change(title=""), NOW + 9)
        assert (await store.update_conversation("ann", "c1", Change(title="x", replaced_title=""), NOW)).title == "x"

    # --- retention and erasure ---

    async def test_a_conversation_has_the_retention_of_its_last_start(self, store: Store) -> None:
        """A conversation gets its retention when it is created, and each start gives it another or none."""
        created = await store.create_conversation(conversation(retention_days=7))
        assert created.retention_days == 7
        assert (
            await store.accept(new_turn("a", limits=TurnLimits(), retention_days=0))
        ).conversation.retention_days == 0  # type: ignore[union-attr]
        assert (await store.accept(new_turn("b", limits=TurnLimits()))).conversation.retention_days is None  # type: ignore[union-attr]
        await store.accept(new_turn("c", limits=TurnLimits(), retention_days=30))
        await store.accept(new_turn("again"))  # a turn that was lost is accepted again without limits
        await store.update_conversation("ann", "c1", Change(title="x"), NOW)
        await store.clear_conversation("ann", "c1", NOW)
        assert (await store.conversation("ann", "c1")).retention_days == 30
        assert (await store.conversations("ann", 9, None))[0][0].retention_days == 30
        new = conversation("c2", retention_days=5)
        await store.accept(
            new_turn("d", conversation=None, new_conversation=new, limits=TurnLimits(), retention_days=5)
        )
        assert (await store.conversation("ann", "c2")).retention_days == 5

    async def test_usage_is_summed_by_day(self, store: Store) -> None:
        """There is an entry for each UTC day on which a turn of the user ended, in a conversation or not."""
        today = NOW - NOW % DAY_MS
        await store.create_conversation(conversation())
        await run(store, new_turn("a"), now_ms=today - 1, usage=Counters(1, 2))
        await run(store, new_turn("b"), now_ms=today, usage=Counters(3, 4, cost_nano=2**52))
        await run(store, stateless_turn("c"), now_ms=today + DAY_MS - 1, usage=Counters(5, cost_nano=1))
        await run(store, stateless_turn("theirs", "bob"), now_ms=today)
        await store.delete_conversation("ann", "c1")
        assert await store.usage_days("ann") == [
            DayUsage(day_ms=today - DAY_MS, turns=1, usage=Counters(1, 2)),
            DayUsage(day_ms=today, turns=2, usage=Counters(8, 4, cost_nano=2**52 + 1)),
        ]
        assert await store.usage_days("nobody") == []

    async def test_an_erased_user_has_nothing_left(self, store: Store) -> None:
        """Everything of the user is gone, also a turn that still runs, and nothing of anybody else. Erasing again, or erasing
        an unknown user, is harmless. The user may begin again with the same ids."""
        for user in ("ann", "anna"):
            await store.create_conversation(conversation("c1", user, title="needle"))
            rated = await run(store, new_turn(f"{user}1", user))
            await say(store, "c1", "a needle", user=user)
            await store.put_feedback(user, rated.answer.id, "up", "a comment", NOW, "demo")
            await run(store, stateless_turn(f"{user}2", user))
            await store.accept(new_turn(f"{user}3", user, lease_ms=1))
            assert await store.put_ephemeral(f"ticket:{user}", b"x", LONG_MS, user) is None
            await store.put_ephemeral(f"other:{user}", b"x", LONG_MS)
            assert await store.acquire_permits("one", [(user_permits(user), 1)], LONG_MS) == [True]
        await asyncio.sleep(0.01)
        kept = await store.usage_days("anna")
        for user in ("ann", "ann", "nobody", "*", "ann*"):
            await store.erase_user(user)
        assert await store.conversations("ann", 9, None) == ([], False)
        assert await store.search("ann", "needle", 9, None) == ([], False)
        assert (await store.usage("ann", None, None), await store.usage_days("ann")) == (Counters(), [])
        assert await store.active("ann", None) == []
        assert await missing(store.message("ann", rated.answer.id)) == "message"
        assert await missing(store.turn("ann", "ann1")) == "turn"
        assert await store.log("ann", "ann1", 0) == []
        assert await store.expired_leases() == [("anna", "anna3")]
        assert [one.user for one in (await store.list_feedback(FeedbackFilter(), 9, None))[0]] == ["anna"]
        keys = ["ticket:ann", "other:ann", "ticket:anna", "other:anna"]
        assert await store.get_ephemeral(keys) == [None, b"x", b"x", b"x"]
        assert await store.acquire_permits("two", [(user_permits(user), 1) for user in ("ann", "anna")], LONG_MS) == [
            True,
            False,
        ]
        assert (await store.conversation("anna", "c1")).messages == 5
        assert len((await store.search("anna", "needle", 9, None))[0]) == 1
        assert (await store.usage_days("anna"), await store.active("anna", None)) == (kept, ["anna3"])
        await store.create_conversation(conversation(), TurnLimits(conversations=1, stored_bytes=100))
        await run(store, new_turn("ann1", limits=TurnLimits(stored_bytes=100)))
        assert (await store.conversation("ann", "c1")).messages == 2

    @checks_time_limit
    async def test_a_large_user_is_erased_in_steps(self, store: Store) -> None:
        """The erasure of much data lets the calls of other users run in between."""
        await store.create_conversation(conversation())
        await asyncio.gather(*(store.create_conversation(conversation(f"many{n}")) for n in range(300)))
        for start in range(0, 300, 100):
            turns = await asyncio.gather(*(store.accept(new_turn(f"t{n}")) for n in range(start, start + 100)))
            await asyncio.gather(
                *(store.end(ending(one.turn, answer=message(one.turn.message, body=b"x" * 20_000))) for one in turns)
            )
        await store.usage("ann", None, None)  # when it returns, a store with an archive has written everything
        erasure = asyncio.create_task(store.erase_user("ann"))
        erased_at, longest_s = time.perf_counter(), 0.0
        while not erasure.done():
            began = time.perf_counter()
            await store.usage("bob", None, None)
            longest_s = max(longest_s, time.perf_counter() - began)
        took_s = time.perf_counter() - erased_at
        await erasure
        assert await store.conversations("ann", 9, None) == ([], False)
        # An erasure in one step would delay a call for its whole duration. In steps, it delays a call for a part of it.
        check_in_time(longest_s, max(0.5, took_s / 5))

    # --- changing ---

    async def test_an_update_changes_only_the_given_fields(self, store: Store) -> None:
        """Fields that are None are unchanged; the revision increases, and `updated_ms` never decreases."""
        await store.create_conversation(conversation(title="T", system="S", model="M"))
        await run(store, new_turn())
        before = await store.conversation("ann", "c1")
        same = await store.update_conversation("ann", "c1", Change(), NOW + HOUR)
        assert same == msgspec.structs.replace(before, revision=before.revision + 1, updated_ms=NOW + HOUR)
        change = Change(title="new", system="sys", model="mod", metadata=b'{"a":1}', head="t1.question")
        changed = await store.update_conversation("ann", "c1", change, NOW)
        assert (changed.title, changed.system, changed.model) == ("new", "sys", "mod")
        assert (changed.metadata, changed.head) == (b'{"a":1}', "t1.question")
        assert changed.updated_ms == NOW + HOUR
        assert changed.revision == same.revision + 1
        assert await store.conversation("ann", "c1") == changed
        emptied = await store.update_conversation("ann", "c1", Change(title="", system=""), NOW)
        assert (emptied.title, emptied.system, emptied.model) == ("", "", "mod")

    async def test_the_head_must_be_a_message_of_the_conversation(self, store: Store) -> None:
        """Law 12: an unknown message, or one of another conversation, can't become the head, and nothing of the change is
        stored."""
        await store.create_conversation(conversation())
        await store.create_conversation(conversation("c2"))
        await run(store, new_turn("other", conversation="c2"))
        before = await store.conversation("ann", "c1")
        for head in ("unknown", "other.answer"):
            assert await missing(store.update_conversation("ann", "c1", Change(title="x", head=head), NOW)) == "head"
        assert await store.conversation("ann", "c1") == before

    async def test_users_may_have_conversations_with_the_same_id(self, store: Store) -> None:
        """Law 12: each user reads, changes and deletes only their own conversation."""
        for user in ("ann", "bob"):
            made = conversation("same", user, title=user, at=NOW)
            assert await store.create_conversation(made) == made
            await run(
                store, new_turn("t1", user, conversation="same", message=f"{user}.answer", input=message(f"{user}.in"))
            )
        running_turn = (await store.accept(new_turn("t2", "bob", conversation="same"))).turn
        await store.update_conversation("ann", "same", Change(title="changed"), NOW)
        assert (await store.conversation("bob", "same")).title == "bob"
        assert [one.id for one in (await store.messages("ann", "same", 9, None))[0]] == ["ann.in", "ann.answer"]
        assert await missing(store.branch("ann", "same", "bob.answer")) == "parent"
        assert await missing(store.messages("ann", "same", 9, "bob.answer")) == "before"
        assert await store.active("ann", "same") == []
        assert (await store.usage("ann", "same", None)).input_tokens == 1
        await store.delete_conversation("ann", "same")
        assert await store.active("bob", "same") == ["t2"]
        kept = await store.end(ending(running_turn))
        assert kept is not None
        assert (kept.title, kept.messages, kept.head) == ("bob", 4, "t2.answer")

    async def test_users_may_have_messages_with_the_same_id(self, store: Store) -> None:
        """Law 12: each user reads, continues, finds, rates and deletes only their own messages."""
        for user in ("ann", "bob"):
            await store.create_conversation(conversation("c1", user))
            said = message("same.question", body=body(f"needle of {user}"))
            answer = message("same", body=user.encode(), role="assistant", parent="same.question")
            await run(store, new_turn("t1", user, message="same", input=said), answer=answer)
            assert (await store.conversation(user, "c1")).messages == 2
        await store.put_feedback("ann", "same", "up", "Good.", NOW, "demo")
        await store.put_feedback("bob", "same", "down", None, NOW + 1, "demo")
        for user, rating in (("ann", "up"), ("bob", "down")):
            assert ((await store.message(user, "same")).body, (await store.message(user, "same")).rating) == (
                user.encode(),
                rating,
            )
            for found, _ in (await store.branch(user, "c1", "same"), await store.messages(user, "c1", 9, None)):
                assert [one.body for one in found] == [body(f"needle of {user}"), user.encode()]
            assert [one.id for one in (await store.messages(user, "c1", 9, "same"))[0]] == ["same.question"]
            (hit,) = (await store.search(user, "needle", 9, None))[0]
            assert (hit.record.user, hit.snippet) == (user, f"needle of {user}")
        rated = (await store.list_feedback(FeedbackFilter(), 9, None))[0]
        assert [(one.user, one.message, one.rating) for one in rated] == [
            ("bob", "same", "down"),
            ("ann", "same", "up"),
        ]
        await store.delete_conversation("ann", "c1")
        assert await missing(store.message("ann", "same")) == "message"
        assert (await store.search("ann", "needle", 9, None))[0] == []
        assert (await store.message("bob", "same")).rating == "down"
        assert len((await store.search("bob", "needle", 9, None))[0]) == 1

    async def test_an_id_can_be_used_again(self, store: Store) -> None:
        """A conversation with the id of a deleted one is empty: the deleted one's turns and usage don't belong to it."""
        await store.create_conversation(conversation())
        await run(store, new_turn("ended"))
        late = await running(store, new_turn("late"))
        await store.delete_conversation("ann", "c1")
        again = await store.create_conversation(conversation(title="Again"))
        assert await store.end(ending(late)) is None
        for turn in ("ended", "late"):
            assert (await store.turn("ann", turn)).conversation is None
        assert not (await store.accept(new_turn("late"))).is_new
        assert (await store.accept(new_turn("late"))).turn.conversation is None
        assert await store.conversation("ann", "c1") == again
        assert await store.messages("ann", "c1", 9, None) == ([], False)
        assert await missing(store.message("ann", "ended.answer")) == "message"
        for since_ms in (None, 0):
            assert await store.usage("ann", "c1", since_ms) == Counters()
            assert (await store.usage("ann", None, since_ms)).input_tokens == 2
        await run(store, new_turn("new"))
        assert (await store.usage("ann", "c1", 0)).input_tokens == 1

    async def test_deleting_a_conversation_deletes_its_messages(self, store: Store) -> None:
        """The conversation, its messages and their feedback are gone; other conversations and the usage stay. The call returns
        the conversation's running turns."""
        await store.create_conversation(conversation())
        await store.create_conversation(conversation("c2"))
        await run(store, new_turn("gone"))
        await run(store, new_turn("kept", conversation="c2"))
        await store.put_feedback("ann", "gone.answer", "up", None, NOW)
        await running(store, new_turn("runs"))
        await running(store, new_turn("runs.too"))
        assert await store.delete_conversation("ann", "c1") == ["runs", "runs.too"]
        assert await missing(store.conversation("ann", "c1")) == "conversation"
        assert await missing(store.messages("ann", "c1", 10, None)) == "conversation"
        assert await missing(store.message("ann", "gone.answer")) == "message"
        assert await store.list_feedback(FeedbackFilter(), 10, None) == ([], False)
        assert await missing(store.delete_conversation("ann", "c1")) == "conversation"
        assert [one.id for one in (await store.conversations("ann", 10, None))[0]] == ["c2"]
        assert (await store.turn("ann", "gone")).conversation is None
        assert (await store.message("ann", "kept.answer")).id == "kept.answer"
        assert (await store.usage("ann", None, None)).input_tokens == 2

    async def test_a_second_rating_replaces_the_first(self, store: Store) -> None:
        """A message has its newest rating, with that one's own comment or none. Nothing else of it changes."""
        await store.create_conversation(conversation())
        await run(store, new_turn())
        before = await store.message("ann", "t1.answer")
        for rating, comment in (("up", None), ("2", "Too long."), ("down", None)):
            await store.put_feedback("ann", "t1.answer", rating, comment, NOW)
            rated = msgspec.structs.replace(before, rating=rating, comment=comment)
            assert await store.message("ann", "t1.answer") == rated
            assert (await store.messages("ann", "c1", 10, None))[0][-1] == rated
            assert (await store.branch("ann", "c1", "t1.answer"))[0][-1] == rated
        assert await missing(store.put_feedback("ann", "unknown", "up", None, NOW)) == "message"
        assert len((await store.list_feedback(FeedbackFilter(), 10, None))[0]) == 1

    async def test_the_feedback_of_all_users_is_listed(self, store: Store) -> None:
        """Feedback is listed newest first, each with the conversation, the turn and the model of its message.

        It can be filtered by model, rating and time.
        """
        for user in ("ann", "a:b {c}"):
            await store.create_conversation(conversation(f"c.{len(user)}", user))
            await run(store, new_turn(f"t.{len(user)}", user, conversation=f"c.{len(user)}"))
        await store.put_feedback("ann", "t.3.answer", "up", "Good.", NOW, "demo")
        await store.put_feedback("a:b {c}", "t.7.answer", "2", None, NOW + 2, "other")
        await store.put_feedback("a:b {c}", "t.7.question", "up", None, NOW + 1)

        async def listed(**fields: Any) -> list[str]:
            found, more = await store.list_feedback(FeedbackFilter(**fields), 10, None)
            assert not more
            return [one.message for one in found]

        assert (await store.list_feedback(FeedbackFilter(model="demo"), 10, None))[0] == [
            FeedbackRecord(
                user="ann",
                message="t.3.answer",
                conversation="c.3",
                turn="t.3",
                model="demo",
                rating="up",
                comment="Good.",
                rated_ms=NOW,
            )
        ]
        assert await listed() == ["t.7.answer", "t.7.question", "t.3.answer"]
        assert await listed(rating="up") == ["t.7.question", "t.3.answer"]
        assert await listed(rating="up", model="demo") == ["t.3.answer"]
        assert await listed(model="none") == []
        assert await listed(since_ms=NOW + 1) == ["t.7.answer", "t.7.question"]
        assert await listed(until_ms=NOW + 1) == ["t.3.answer"]
        assert await listed(since_ms=NOW + 1, until_ms=NOW + 2) == ["t.7.question"]
        await store.put_feedback("ann", "t.3.answer", "down", None, NOW + 3, "demo")
        assert await listed() == ["t.3.answer", "t.7.answer", "t.7.question"]

    async def test_feedback_is_read_in_pages(self, store: Store) -> None:
        """A page begins after the position `before`, also where several ratings have the same time, and where the rating
        at that position is gone."""
        await store.create_conversation(conversation())
        await store.create_conversation(conversation("c2"))
        for n in range(6):
            await run(store, new_turn(f"t{n}", conversation="c2" if n == 3 else "c1"))
            await store.put_feedback("ann", f"t{n}.answer", "up" if n % 2 else "down", None, NOW + n // 3)
        whole = (await store.list_feedback(FeedbackFilter(), 10, None))[0]
        assert [one.rated_ms for one in whole] == [NOW + 1] * 3 + [NOW] * 3
        for limit in (1, 2, 3, 5):
            found: list[FeedbackRecord] = []
            more = True
            while more:
                before = (found[-1].rated_ms, found[-1].message) if found else None
                page, more = await store.list_feedback(FeedbackFilter(), limit, before)
                assert len(page) == limit or not more
                found += page
            assert found == whole
        position = next((one.rated_ms, one.message) for one in whole if one.message == "t3.answer")
        after = (await store.list_feedback(FeedbackFilter(), 10, position))[0]
        await store.delete_conversation("ann", "c2")
        assert (await store.list_feedback(FeedbackFilter(), 10, position))[0] == after
        assert "t3.answer" not in [one.message for one in (await store.list_feedback(FeedbackFilter(), 10, None))[0]]

    async def test_usage_is_summed(self, store: Store) -> None:
        """`usage` sums all of a user's ended turns, or those of one conversation, or those since a time."""
        await store.create_conversation(conversation())
        await store.create_conversation(conversation("c2"))
        assert await store.usage("ann", None, None) == Counters()
        await run(store, new_turn("a"), now_ms=NOW)
        await run(store, new_turn("b"), now_ms=NOW + HOUR, usage=Counters(10, 20))
        await run(store, new_turn("c", conversation="c2"), now_ms=NOW + 2 * HOUR, usage=Counters(100, 200, cost_nano=7))
        await run(store, stateless_turn("d"), now_ms=NOW + 3 * HOUR, usage=Counters(1000))
        await store.accept(new_turn("running"))
        assert await store.usage("ann", None, None) == Counters(1111, 222, 3, 4, 5, 13)
        assert await store.usage("ann", "c1", None) == Counters(11, 22, 3, 4, 5, 6)
        assert await store.usage("ann", None, NOW + HOUR) == Counters(1110, 220, cost_nano=7)
        assert await store.usage("ann", "c1", NOW + HOUR) == Counters(10, 20)
        assert await store.usage("ann", None, NOW + 4 * HOUR) == Counters()
        assert await store.usage("bob", None, None) == Counters()
        assert (await store.conversation("ann", "c1")).usage == Counters(11, 22, 3, 4, 5, 6)

    async def test_every_value_is_read_as_it_was_stored(self, store: Store) -> None:
        """Arbitrary bytes and texts, empty values and None are unchanged after a round trip."""
        everything = bytes(range(256))
        text = 'Zoë\0 said "{user}" 😀\r\n'
        made = conversation("c1", title=text, system=text, model="", metadata=everything, head=None)
        await store.create_conversation(made)
        assert await store.conversation("ann", "c1") == made
        question = message("q", body=everything, turn="t1")
        new = new_turn(request=everything, digest=everything, input=question, model=text)
        accepted = await store.accept(new)
        assert (accepted.turn.request, accepted.turn.digest, accepted.turn.model) == (everything, everything, text)
        assert accepted.input == question
        await store.request_cancel("ann", "t1", everything)
        last = piece(accepted.turn, 1, 2, payload=everything)
        answer = message("t1.answer", parent="q", body=b"", role="assistant", turn="t1")
        await store.end(ending(accepted.turn, events=last, ending=everything, answer=answer))
        stored = await store.turn("ann", "t1")
        assert (stored.ending, stored.cancel) == (everything, everything)
        assert await store.log("ann", "t1", 0) == [entry(last)]
        assert await store.message("ann", "t1.answer") == answer

    @in_many_examples
    @given(
        users=st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=3, unique=True),
        name=st.text(min_size=1, max_size=8),
    )
    async def test_users_and_ids_can_be_any_text(self, store: Store, users: list[str], name: str) -> None:
        """Law 12: for any names of users and conversations, each user sees only their own conversations."""
        prefix = f"{next(_numbers)}"
        for user in users:
            made = conversation(f"{prefix}{name}{users.index(user)}", prefix + user, title=user)
            await store.create_conversation(made)
        for user in users:
            listed, more = await store.conversations(prefix + user, 10, None)
            assert ([one.title for one in listed], more) == ([user], False)
            conversation_id = f"{prefix}{name}{users.index(user)}"
            for other in users:
                if other != user:
                    assert await missing(store.conversation(prefix + other, conversation_id)) == "conversation"

    # --- other users ---

    @pytest.mark.parametrize("request_name", READS_AND_WRITES)
    async def test_other_users_see_nothing(self, store: Store, request_name: str) -> None:
        """Law 12: an id of another user is answered exactly as an unknown id, and nothing is changed."""
        await store.create_conversation(conversation())
        await run(store, new_turn())
        call, field = READS_AND_WRITES[request_name]
        before = await store.conversation("ann", "c1"), await store.turn("ann", "t1")
        assert await missing(call(store, "bob")) == field
        assert (await store.conversation("ann", "c1"), await store.turn("ann", "t1")) == before
        await call(store, "ann")


class StoreConformance(HistoryConformance):
    """The tests that every store must pass."""

    @pytest.fixture
    async def other(self, store: Store, open_store: OpenStore) -> Store:
        """Another instance's store on the same data."""
        if not store.shared:
            pytest.skip("only one instance can use this store")
        return await open_store()

    # --- limits ---

    async def test_a_turn_beyond_the_limit_has_the_running_groups(self, store: Store) -> None:
        """The turn is accepted, and the result lists the groups of the user's earlier turns, which use up the limit.

        In a group, only one turn runs at a time. Here each turn is a group of its own, because none is queued in its
        conversation. Each user has their own limit.
        """
        limits = TurnLimits(running=2)
        first = await running(store, stateless_turn("a", limits=limits))
        assert (await store.accept(stateless_turn("b", limits=limits))).running_groups == ()
        assert (await store.accept(stateless_turn("c", limits=limits))).running_groups == (("a",), ("b",))
        assert (await store.accept(stateless_turn("d", limits=limits))).running_groups == (("a",), ("b",), ("c",))
        assert (await store.accept(stateless_turn("a", "bob", limits=limits))).running_groups == ()
        assert await store.running_groups("ann", "c", 2) == (("a",), ("b",))
        assert await store.running_groups("ann", "c", 3) == ()
        assert await store.running_groups("ann", "c", 0) == ()
        await store.end(ending(first))
        assert await store.running_groups("ann", "c", 2) == ()
        assert await store.running_groups("ann", "d", 2) == (("b",), ("c",))
        assert (await store.accept(stateless_turn("e"))).running_groups == ()

    async def test_turns_queued_in_a_conversation_are_one_group(self, store: Store) -> None:
        """A long queue in one conversation doesn't delay other conversations; a parallel turn is its own group."""
        limits = TurnLimits(running=3)
        for name in ("c1", "c2"):
            await store.create_conversation(conversation(name))
        first = await running(store, new_turn("a", on_busy="queue", limits=limits))
        for name in ("b", "c", "d"):
            assert (await store.accept(new_turn(name, on_busy="queue", limits=limits))).running_groups == ()
        await store.accept(new_turn("parallel", limits=limits))
        await store.accept(new_turn("elsewhere", conversation="c2", limits=limits))
        await store.accept(new_turn("last", limits=limits))
        groups = (("a", "b", "c", "d"), ("parallel",), ("elsewhere",))
        assert await store.running_groups("ann", "last", 3) == groups
        await store.end(ending(first))
        assert await store.running_groups("ann", "last", 3) == (("b", "c", "d"), ("parallel",), ("elsewhere",))

    async def test_live_turns_have_a_limit(self, store: Store) -> None:
        """A start beyond the limit is refused and stores nothing; a repeated start still returns its turn."""
        limits = TurnLimits(running=1, live=2)
        first = await running(store, stateless_turn("a", limits=limits))
        await store.accept(stateless_turn("b", limits=limits))
        assert await limited(store.accept(stateless_turn("c", limits=limits))) == ("live", None)
        assert await missing(store.turn("ann", "c")) == "turn"
        assert not (await store.accept(stateless_turn("b", limits=limits, message="other"))).is_new
        assert (await store.accept(stateless_turn("c", "bob", limits=limits))).is_new
        await store.end(ending(first))
        assert (await store.accept(stateless_turn("c", limits=limits))).is_new

    async def test_starts_have_a_rate_limit(self, store: Store) -> None:
        """After a burst, one start is accepted per interval. After the `retry_after_ms` of a refusal, the start is
        accepted. Refused starts aren't counted."""
        limits = TurnLimits(start_interval_us=60_000_000, start_burst=3)
        for name in ("a", "b", "c"):
            await store.accept(stateless_turn(name, limits=limits))
        for _ in range(3):
            limit, wait_ms = await limited(store.accept(stateless_turn("d", limits=limits)))
            assert limit == "starts"
            assert 30_000 < (wait_ms or 0) <= 60_000
        assert not (await store.accept(stateless_turn("a", limits=limits, message="other"))).is_new
        assert (await store.accept(stateless_turn("a", "bob", limits=limits))).is_new
        assert (await store.accept(stateless_turn("free"))).is_new
        limits = TurnLimits(start_interval_us=100_000, start_burst=1)
        for number in range(5):
            try:
                await store.accept(stateless_turn(f"c{number}", "cid", limits=limits))
            except Limited as refused:
                assert 0 < (refused.retry_after_ms or 0) <= 100
                await asyncio.sleep((refused.retry_after_ms or 0) / 1000)
                assert (await store.accept(stateless_turn(f"c{number}", "cid", limits=limits))).is_new

    async def test_a_refused_start_is_not_counted(self, store: Store) -> None:
        """The rate limit counts only accepted starts."""
        limits = TurnLimits(start_interval_us=60_000_000, start_burst=1)
        assert await missing(store.accept(new_turn(conversation="unknown", limits=limits))) == "conversation"
        assert (await store.accept(stateless_turn(limits=limits))).is_new

    @pytest.mark.parametrize(
        ("limits", "limit"),
        [
            (TurnLimits(tokens_per_day=6), "tokens_per_day"),
            (TurnLimits(cost_nano_per_day=12), "cost_per_day"),
        ],
    )
    async def test_a_budget_is_for_one_day(self, store: Store, limits: TurnLimits, limit: str) -> None:
        """The usage of ended turns counts until midnight UTC, to the millisecond; each user has their own budget."""
        midnight = (NOW // DAY_MS + 1) * DAY_MS
        await run(store, stateless_turn("a", limits=limits), now_ms=midnight - 5000)
        await run(store, stateless_turn("b", limits=limits, now_ms=midnight - 4000), now_ms=midnight - 3000)
        late = stateless_turn("c", limits=limits, now_ms=midnight - 2000)
        assert await limited(store.accept(late)) == (limit, 2000)
        assert await limited(store.accept(structs.replace(late, now_ms=midnight - 1))) == (limit, 1)
        assert (await store.accept(stateless_turn("c", "bob", limits=limits, now_ms=midnight - 2000))).is_new
        ended = await run(store, structs.replace(late, now_ms=midnight), now_ms=midnight + 1)
        await store.end(ended)
        await run(store, stateless_turn("d", limits=limits, now_ms=midnight + 2), now_ms=midnight + 3)
        assert await limited(store.accept(stateless_turn("e", limits=limits, now_ms=midnight + 10))) == (
            limit,
            DAY_MS - 10,
        )

    async def test_a_turn_belongs_to_the_day_of_its_ending(self, store: Store) -> None:
        """The usage of a turn that ends after midnight counts for the new day; a running turn isn't counted."""
        limits = TurnLimits(tokens_per_day=1)
        midnight = (NOW // DAY_MS + 1) * DAY_MS
        turn = await running(store, stateless_turn("a", limits=limits, now_ms=midnight - 10))
        await running(store, stateless_turn("b", limits=limits, now_ms=midnight - 9))
        await store.end(ending(turn, now_ms=midnight + 1, usage=Counters(1, 0)))
        assert await limited(store.accept(stateless_turn("c", limits=limits, now_ms=midnight + 2))) == (
            "tokens_per_day",
            DAY_MS - 2,
        )

    async def test_live_requests_have_a_byte_limit(self, store: Store) -> None:
        """The requests of all of a user's live turns count, including the new one; each user has their own limit."""
        limits = TurnLimits(live_bytes=1000)
        for n in range(2):
            turn = (await store.accept(stateless_turn(f"t{n}", request=b"x" * 450, limits=limits))).turn
        assert await limited(store.accept(stateless_turn("t2", request=b"x" * 101, limits=limits))) == (
            "live_bytes",
            None,
        )
        await store.accept(stateless_turn("t2", request=b"x" * 100, limits=limits))
        await store.accept(stateless_turn("t2", "bob", request=b"x" * 1000, limits=limits))
        await store.end(ending(turn))
        await store.accept(stateless_turn("t3", request=b"x" * 450, limits=limits))

    async def test_limits_hold_for_all_instances(self, store: Store, other: Store) -> None:
        """Of many concurrent starts on two instances, exactly as many are accepted as the limits allow."""
        limits = TurnLimits(running=3, live=5)
        new = [stateless_turn(f"t{n}", limits=limits) for n in range(20)]
        answers = await asyncio.gather(
            *((store, other)[n % 2].accept(one) for n, one in enumerate(new)), return_exceptions=True
        )
        accepted = [answer for answer in answers if isinstance(answer, Accepted)]
        assert sorted(len(answer.running_groups) for answer in accepted) == [0, 0, 0, 3, 4]
        assert sum(isinstance(answer, Limited) for answer in answers) == 15

    # --- the log ---

    async def test_events_are_stored_in_order(self, store: Store) -> None:
        """Law 7: for any given seq, the log returns in order the entries that hold later events."""
        turn = await running(store)
        assert await store.log("ann", "t1", 0) == []
        pieces = [piece(turn, 1, 1), piece(turn, 2, 5), piece(turn, 6, 7)]
        assert await store.append(pieces) == [Appended("stored", 1), Appended("stored", 5), Appended("stored", 7)]
        every = [entry(one) for one in pieces]
        assert await store.log("ann", "t1", 0) == every
        assert await store.log("ann", "t1", 1) == every[1:]
        assert await store.log("ann", "t1", 3) == every[1:]
        assert await store.log("ann", "t1", 5) == every[2:]
        assert await store.log("ann", "t1", 7) == []
        assert await store.log("ann", "t1", 99) == []
        assert (await store.turn("ann", "t1")).seq == 7

    async def test_a_repeated_append_is_stored_once(self, store: Store) -> None:
        """A call whose reply was lost can be repeated, also with the events split differently."""
        turn = await running(store)
        both = [piece(turn, 1, 3), piece(turn, 4, 6)]
        await store.append(both)
        assert await store.append(both) == [Appended("stored", 6), Appended("stored", 6)]
        assert await append(store, piece(turn, 2, 4), piece(turn, 1, 6)) == ["stored", "stored"]
        assert await store.log("ann", "t1", 0) == [entry(one) for one in both]

    async def test_an_append_that_does_not_continue_the_log_is_a_gap(self, store: Store) -> None:
        """An append with a hole, or one that overlaps the end, changes nothing and returns the end.

        So does one that has other content for events that are stored.
        """
        turn = await running(store)
        assert await store.append([piece(turn, 2, 2)]) == [Appended("gap", 0)]
        await store.append([piece(turn, 1, 3)])
        for first, last in ((5, 5), (2, 5), (3, 4), (1, 4)):
            assert await store.append([piece(turn, first, last)]) == [Appended("gap", 3)]
        assert await store.append([piece(turn, 1, 3, payload=b"another")]) == [Appended("gap", 3)]
        assert await store.log("ann", "t1", 0) == [entry(piece(turn, 1, 3))]
        assert await append(store, piece(turn, 4, 4)) == ["stored"]

    async def test_an_append_to_an_unknown_turn_is_missing(self, store: Store) -> None:
        """Law 12: an append to an unknown turn or to another user's is `missing`; the other appends are stored."""
        turn = await running(store)
        unknown = Append("ann", "unknown", turn.epoch, 1, 1, b"x")
        theirs = Append("bob", "t1", turn.epoch, 1, 1, b"x")
        assert await append(store, unknown, piece(turn, 1, 1), theirs) == ["missing", "stored", "missing"]
        assert await store.log("bob", "t1", 0) == []
        assert await store.log("ann", "unknown", 0) == []

    async def test_a_former_owner_can_not_write(self, store: Store) -> None:
        """Law 9: a former owner's writes are refused, and the log continues in the new epoch."""
        turn = await running(store)
        await store.append([piece(turn, 1, 4)])
        claimed = await store.claim("ann", "t1", "two", turn.epoch, LONG_MS, force=True)
        assert claimed is not None
        assert await append(store, piece(turn, 5, 5), piece(turn, 1, 4)) == ["fenced", "fenced"]
        assert await append(store, piece(claimed, 3, 4), piece(claimed, 1, 4)) == ["gap", "gap"]
        assert await append(store, piece(claimed, 5, 6), piece(claimed, 5, 6)) == ["stored", "stored"]
        assert await append(store, piece(claimed, 7, 7, epoch=claimed.epoch + 1)) == ["fenced"]
        assert await store.log("ann", "t1", 0) == [entry(piece(turn, 1, 4)), entry(piece(claimed, 5, 6))]
        assert await store.log("ann", "t1", 4) == [entry(piece(claimed, 5, 6))]
        assert await store.log("ann", "t1", 2) == await store.log("ann", "t1", 0)

    async def test_nothing_follows_an_ending(self, store: Store) -> None:
        """Law 2: nothing is appended to an ended turn's log, and its entries stay."""
        turn = await running(store)
        await store.end(ending(turn))
        assert await append(store, piece(turn, 10, 10), piece(turn, 1, 9)) == ["fenced", "stored"]
        assert await store.log("ann", "t1", 0) == [entry(piece(turn, 1, 9))]

    async def test_one_call_appends_to_many_logs(self, store: Store) -> None:
        """The results are in the order of the appends, for any turns and users."""
        turns = [await running(store, stateless_turn(f"t{n}", f"user{n % 3}")) for n in range(30)]
        pieces = [piece(turn, first, first) for first in (1, 2) for turn in turns]
        assert [one.end for one in await store.append(pieces)] == [1] * 30 + [2] * 30
        assert await store.append([]) == []
        for turn in turns:
            assert [one.last for one in await store.log(turn.user, turn.turn, 0)] == [1, 2]

    async def test_a_long_log_is_read_in_pieces(self, store: Store) -> None:
        """One read returns about 1 MiB at most, and the next read continues after it."""
        turn = await running(store)
        size = 64 * 1024
        for n in range(1, 41):
            await store.append([piece(turn, n, n, payload=n.to_bytes(2, "big") * (size // 2))])
        read: list[LogEntry] = []
        while entries := await store.log("ann", "t1", read[-1].last if read else 0):
            assert sum(len(one.payload) for one in entries) <= 1.5 * 2**20
            read += entries
        assert [one.last for one in read] == list(range(1, 41))
        assert all(one.payload == one.last.to_bytes(2, "big") * (size // 2) for one in read)

    @in_many_examples
    @given(
        steps=st.lists(
            st.one_of(
                st.just("claim"),
                st.tuples(st.integers(0, 1), st.integers(1, 12), st.integers(0, 4)),
            ),
            max_size=25,
        )
    )
    async def test_a_log_is_always_contiguous(self, store: Store, steps: list[str | tuple[int, int, int]]) -> None:
        """Laws 1 and 9: after any repeated, late or overlapping appends, the log has each seq once, in order."""
        user = f"user{next(_numbers)}"
        turn = await running(store, stateless_turn(user=user))
        epochs, begins, end = [turn.epoch], 1, 0
        stored: list[LogEntry] = []
        for step in steps:
            if isinstance(step, str):
                claimed = await store.claim(user, "t1", f"owner{len(epochs)}", 1, LONG_MS, force=True)
                assert claimed is not None
                assert (claimed.epoch > epochs[-1], claimed.seq) == (True, end)
                epochs.append(claimed.epoch)
                begins = end + 1
                continue
            back, first, more = step
            epoch = epochs[max(0, len(epochs) - 1 - back)]
            new = piece(turn, first, first + more, epoch=epoch)
            if epoch != epochs[-1]:
                expected = "fenced"
            elif first == end + 1:
                expected, end = "stored", new.last
                stored.append(entry(new))
            else:
                expected = "stored" if first >= begins and new.last <= end else "gap"
            (appended,) = await store.append([new])
            assert (appended.outcome, appended.end) == (expected, end)
        assert await store.log(user, "t1", 0) == stored
        for after in range(end + 1):
            assert await store.log(user, "t1", after) == [one for one in stored if one.last > after]

    # --- ownership ---

    async def test_an_owner_renews_its_leases(self, store: Store) -> None:
        """Law 9: one call renews many leases; the results are in order, each with its cancel request. A wrong owner or
        epoch is refused."""
        turn = await running(store)
        await store.accept(stateless_turn("t2", "bob"))
        await store.request_cancel("bob", "t2", b"stop")
        held, cancelled, wrong_epoch = await store.renew(
            "one", [("ann", "t1", turn.epoch), ("bob", "t2", turn.epoch), ("ann", "t1", turn.epoch - 1)], LONG_MS
        )
        assert (held.held, held.cancel, held.missing) == (True, None, False)
        assert (cancelled.held, cancelled.cancel) == (True, b"stop")
        assert (wrong_epoch.held, wrong_epoch.missing) == (False, False)
        (wrong_owner,) = await store.renew("two", [("ann", "t1", turn.epoch)], LONG_MS)
        assert not wrong_owner.held
        assert await store.renew("one", [], LONG_MS) == []
        await store.end(ending(turn))
        (ended,) = await store.renew("one", [("ann", "t1", turn.epoch)], LONG_MS)
        assert not ended.held

    async def test_renewing_a_lost_turn_reports_it_missing(self, store: Store) -> None:
        """A store that lost its data refuses no renewal; the result says that the turn has to be restored."""
        (lost,) = await store.renew("one", [("ann", "lost", NOW)], LONG_MS)
        assert (lost.held, lost.missing) == (True, True)

    async def test_a_held_turn_can_not_be_claimed(self, store: Store) -> None:
        """Law 9: while the lease is valid and after the turn has ended, no other instance becomes the owner."""
        turn = await running(store)
        assert await store.claim("ann", "t1", "two", NOW + 1, LONG_MS) is None
        assert await store.expired_leases() == []
        (lease,) = await store.renew("one", [("ann", "t1", turn.epoch)], LONG_MS)
        assert lease.held
        await store.end(ending(turn))
        assert await store.claim("ann", "t1", "two", NOW + 1, LONG_MS, force=True) is None
        assert await missing(store.claim("ann", "unknown", "two", NOW, LONG_MS)) == "turn"

    async def test_an_expired_lease_is_found_and_claimed(self, store: Store) -> None:
        """Law 9: the new owner gets the whole request and a higher epoch; the former owner's renewals are refused."""
        turn = await running(store, stateless_turn(lease_ms=SHORT_MS))
        assert await eventually(store.expired_leases) == [("ann", "t1")]
        claimed = await store.claim("ann", "t1", "two", 1, LONG_MS)
        assert claimed is not None
        assert (claimed.owner, claimed.request, claimed.seq) == ("two", b"{}", 0)
        assert claimed.epoch > turn.epoch
        assert await store.turn("ann", "t1", with_request=True) == claimed
        assert await store.expired_leases() == []
        (lease,) = await store.renew("one", [("ann", "t1", turn.epoch)], LONG_MS)
        assert not lease.held
        assert await store.claim("ann", "t1", "three", 1, LONG_MS) is None

    async def test_an_epoch_only_grows(self, store: Store) -> None:
        """Law 9: a claim's epoch is at least the proposed one, and always higher than the previous one."""
        turn = await running(store)
        high = await store.claim("ann", "t1", "two", turn.epoch + 5_000, LONG_MS, force=True)
        low = await store.claim("ann", "t1", "three", turn.epoch, LONG_MS, force=True)
        assert high is not None
        assert low is not None
        assert high.epoch >= turn.epoch + 5_000
        assert low.epoch > high.epoch

    async def test_an_expired_unclaimed_lease_can_be_renewed(self, store: Store) -> None:
        """Law 9: an owner whose lease expired keeps its turn if no other instance claimed it."""
        turn = await running(store, stateless_turn(lease_ms=1))
        await eventually(store.expired_leases)
        (lease,) = await store.renew("one", [("ann", "t1", turn.epoch)], LONG_MS)
        assert lease.held
        assert await store.expired_leases() == []
        assert await store.claim("ann", "t1", "two", NOW, LONG_MS) is None

    async def test_a_released_turn_can_be_claimed_at_once(self, store: Store) -> None:
        """An owner that stops releases its turns. A release with another epoch, user or id changes nothing."""
        turn = await running(store)
        await store.release("ann", "t1", turn.epoch - 1)
        await store.release("ann", "unknown", turn.epoch)
        await store.release("bob", "t1", turn.epoch)
        assert await store.expired_leases() == []
        await store.release("ann", "t1", turn.epoch)
        assert await store.expired_leases() == [("ann", "t1")]
        claimed = await store.claim("ann", "t1", "two", NOW, LONG_MS)
        assert claimed is not None
        await store.end(ending(claimed))
        await store.release("ann", "t1", claimed.epoch)
        assert await store.expired_leases() == []

    async def test_of_concurrent_claims_one_succeeds(self, other: Store, store: Store) -> None:
        """Law 9: a claim is one atomic step."""
        turn = await running(store)
        await store.release("ann", "t1", turn.epoch)
        claims = [(store, other)[n % 2].claim("ann", "t1", f"owner{n}", NOW + n, LONG_MS) for n in range(10)]
        assert len([one for one in await asyncio.gather(*claims) if one is not None]) == 1

    # --- cancel requests ---

    async def test_a_cancel_request_is_stored_with_the_turn(self, store: Store) -> None:
        """Law 5: the first request stays; appends, renewals, reads and claims return it."""
        turn = await running(store)
        assert (await store.append([piece(turn, 1, 1)]))[0].cancel is None
        assert await store.request_cancel("ann", "t1", b"stop")
        assert await store.request_cancel("ann", "t1", b"later")
        assert await store.append([piece(turn, 2, 2), piece(turn, 2, 2)]) == [Appended("stored", 2, b"stop")] * 2
        (lease,) = await store.renew("one", [("ann", "t1", turn.epoch)], LONG_MS)
        assert lease.cancel == b"stop"
        assert (await store.turn("ann", "t1")).cancel == b"stop"
        claimed = await store.claim("ann", "t1", "two", NOW, LONG_MS, force=True)
        assert claimed is not None
        assert claimed.cancel == b"stop"
        await store.end(ending(claimed, status="cancelled"))
        assert not await store.request_cancel("ann", "t1", b"too late")

    async def test_the_owner_is_notified_of_a_cancel_request(self, store: Store) -> None:
        """Law 5: the user and the turn are published on the owner's instance channel."""
        await running(store)
        async with listening(store) as received:
            await store.subscribe(instance_channel("one"))
            await store.request_cancel("ann", "t1", b"stop")
            channel, payload = await received.next()
            assert channel == instance_channel("one")
            assert msgspec.msgpack.decode(payload, type=tuple[str, str]) == ("ann", "t1")

    async def test_one_call_looks_up_many_turns(self, store: Store) -> None:
        """`running` returns for each id whether the turn runs; another user's turn is unknown (law 12)."""
        await store.create_conversation(conversation())
        turns = [(await store.accept(new_turn(f"t{n}"))).turn for n in range(3)]
        await store.end(ending(turns[1]))
        ids = ["t2", "nowhere", "t1", "t0", "x" * 64]
        assert await store.running("ann", ids) == [True, None, False, True, None]
        assert await store.running("bob", ids) == [None] * 5
        assert await store.running("ann", []) == []
        assert await store.running("ann", [f"no{n}" for n in range(1000)]) == [None] * 1000

    # --- pub/sub ---

    async def test_each_change_is_published_on_the_channel_of_the_list(self, store: Store) -> None:
        """A create, a start, an ending, an update, a pin, a clear and a delete, for their user only, whatever its name."""
        user = "a%:{nn}@é"
        async with listening(store) as received:
            await store.subscribe(list_channel(user))
            await store.create_conversation(conversation("c0", "bob"))
            await store.create_conversation(conversation("made", user))
            turn = await running(
                store, new_turn("t1", user, conversation=None, new_conversation=conversation("c1", user))
            )
            await store.end(ending(turn))
            await store.update_conversation(user, "c1", Change(title="x"), NOW)
            await store.update_conversation(user, "c1", Change(pinned=True), NOW)
            await store.clear_conversation(user, "c1", NOW)
            await store.delete_conversation(user, "c1")
            await store.create_conversation(conversation("last", user))
            found = [await received.next()]
            while found[-1][1] != b"last":
                found.append(await received.next())
        assert {channel for channel, _ in found} == {list_channel(user)}
        assert [payload for _, payload in found] == [b"made", *[b"c1"] * 6, b"last"]

    async def test_the_number_of_pinned_conversations_is_bounded(self, store: Store) -> None:
        """One more is refused, and changes nothing. A deleted conversation makes room."""
        for n in range(PINNED_MAX + 1):
            await store.create_conversation(conversation(f"c{n}"))
        for n in range(PINNED_MAX):
            await store.update_conversation("ann", f"c{n}", Change(pinned=True), NOW)
        more = store.update_conversation("ann", f"c{PINNED_MAX}", Change(pinned=True, title="x"), NOW)
        assert await limited(more) == ("pinned", None)
        assert (await store.conversation("ann", f"c{PINNED_MAX}")).revision == 0
        await store.update_conversation("ann", "c0", Change(pinned=True), NOW)
        await store.delete_conversation("ann", "c0")
        assert (await store.update_conversation("ann", f"c{PINNED_MAX}", Change(pinned=True), NOW)).pinned
        await store.erase_user("ann")
        await store.create_conversation(conversation("new"))
        assert (await store.conversations("ann", 9, None, pinned=True))[0] == []

    async def test_subscribed_channels_are_delivered(self, store: Store) -> None:
        """What is published on a channel is delivered in order from the return of `subscribe` to the return of the last
        `unsubscribe`."""
        async with listening(store) as received:
            await store.subscribe("a")
            await store.subscribe("a")
            await store.subscribe("b")
            for number in (b"1", b"2"):
                await store.publish("a", number)
            await store.publish("c", b"not subscribed")
            await store.publish("b", b"3")
            deliveries = [await received.next() for _ in range(3)]
            assert [one for one in deliveries if one[0] == "a"] == [("a", b"1"), ("a", b"2")]
            assert ("b", b"3") in deliveries
            await store.unsubscribe("a")
            await store.publish("a", b"one subscription left")
            assert await received.next() == ("a", b"one subscription left")
            await store.unsubscribe("a")
            await store.unsubscribe("a")
            await store.publish("a", b"no subscription left")
            await store.publish("b", b"4")
            assert await received.next() == ("b", b"4")
            assert received.reconnects == 0

    async def test_a_channel_may_have_any_name(self, store: Store) -> None:
        """A channel's name is arbitrary text and never a pattern."""
        names = [turn_channel("a{b}:*?[x]%", "t"), turn_channel("ü\n\0 ", "t"), turn_channel("*", "*")]
        async with listening(store) as received:
            for name in names:
                await store.subscribe(name)
            for name in names:
                await store.publish(name, name.encode())
            deliveries = [await received.next() for _ in names]
            assert sorted(deliveries) == sorted((name, name.encode()) for name in names)

    async def test_new_log_entries_are_published(self, store: Store) -> None:
        """Law 7: each entry, also that of the ending, is published once after it is stored. Repeated and refused
        appends aren't published."""
        turn = await running(store)
        async with listening(store) as received:
            await store.subscribe(turn_channel("ann", "t1"))
            await append(store, piece(turn, 1, 2), piece(turn, 1, 2), piece(turn, 9, 9), piece(turn, 3, 3))
            ended = ending(await store.turn("ann", "t1"))
            await store.end(ended)
            await store.end(ended)
            await store.publish(turn_channel("ann", "t1"), b"the end")
            entries = [await received.next() for _ in range(4)]
            assert [one for one, _ in entries] == [turn_channel("ann", "t1")] * 4
            decoded = [msgspec.msgpack.decode(payload, type=LogEntry) for _, payload in entries[:3]]
            assert decoded == [entry(piece(turn, 1, 2)), entry(piece(turn, 3, 3)), entry(ended.events)]
            assert entries[3][1] == b"the end"

    async def test_new_turns_are_published_to_their_conversation(self, store: Store) -> None:
        """A new turn's id is published on its conversation's channel; a repeated start isn't published."""
        await store.create_conversation(conversation())
        async with listening(store) as received:
            await store.subscribe(conversation_channel("ann", "c1"))
            await store.accept(new_turn())
            await store.accept(new_turn(message="other"))
            await store.accept(new_turn("t2"))
            published = [await received.next(), await received.next()]
            assert published == [(conversation_channel("ann", "c1"), name) for name in (b"t1", b"t2")]

    async def test_instances_receive_what_others_publish(self, store: Store, other: Store) -> None:
        """Law 7: one instance receives and reads what the other writes or publishes."""
        turn = await running(store)
        async with listening(other) as received, listening(store) as own:
            await other.subscribe(turn_channel("ann", "t1"))
            await store.subscribe(instance_channel("one"))
            await store.append([piece(turn, 1, 1)])
            channel, payload = await received.next()
            assert channel == turn_channel("ann", "t1")
            assert await other.log("ann", "t1", 0) == [msgspec.msgpack.decode(payload, type=LogEntry)]
            await other.request_cancel("ann", "t1", b"stop")
            assert (await own.next())[0] == instance_channel("one")

    async def test_other_presence_is_found_until_it_expires(self, store: Store) -> None:
        """Law 8: other instances find an instance's presence until it expires; the instance itself doesn't."""
        await running(store)
        assert not await store.has_other_presence("ann", "t1", "one")
        await store.renew_presence("one", [("ann", "t1"), ("bob", "t1")], LONG_MS)
        assert not await store.has_other_presence("ann", "t1", "one")
        if not store.shared:
            return
        await store.renew_presence("two", [("ann", "t1")], SHORT_MS)
        await store.renew_presence("two", [], LONG_MS)
        assert await store.has_other_presence("ann", "t1", "two")
        await eventually(lambda: _not(store.has_other_presence("ann", "t1", "one")))
        await store.renew_presence("two", [("ann", "t1")], LONG_MS)
        assert await store.has_other_presence("ann", "t1", "one")

    # --- ephemeral values ---

    async def test_an_ephemeral_value_expires(self, store: Store) -> None:
        """`put_ephemeral` replaces an earlier value and returns it; the value expires."""
        assert await store.put_ephemeral("n1", b"\x00one", LONG_MS) is None
        assert await store.put_ephemeral("n1", b"two", LONG_MS) == b"\x00one"
        assert await store.put_ephemeral("n2", b"", SHORT_MS) is None
        assert await store.get_ephemeral(["n2", "unknown", "n1"]) == [b"", None, b"two"]
        assert await store.get_ephemeral([]) == []
        before, after = await store.clock_ms(), await store.clock_ms()
        assert NOW - 10 * 365 * DAY_MS < before <= after
        await eventually(lambda: _are_expired(store, "n2"))
        assert await store.put_ephemeral("n2", b"again", LONG_MS) is None

    async def test_of_concurrent_pops_one_gets_the_value(self, store: Store) -> None:
        """Of many concurrent callers, exactly one gets the value."""
        await store.put_ephemeral("ticket", b"ann", LONG_MS)
        popped = await asyncio.gather(*(store.pop_ephemeral("ticket") for _ in range(8)))
        assert sorted(popped, key=bool) == [None] * 7 + [b"ann"]
        assert await store.get_ephemeral(["ticket"]) == [None]

    # --- rate limits ---

    async def test_requests_are_counted_across_instances(self, store: Store, other: Store) -> None:
        """Each user's requests on all instances are counted together; a request whose interval has passed doesn't count."""
        assert await store.count_requests([], 1000) == []
        minute_us = 60_000_000
        first = await store.count_requests([("ann", 2, 0), ("bob", 1, 0)], minute_us)
        second = await other.count_requests([("bob", 3, 0), ("ann", 1, minute_us), ("cid", 4, minute_us)], minute_us)
        for ahead_us, minutes in zip([*first, *second], (2, 1, 4, 3, 3), strict=True):
            assert (minutes - 0.5) * minute_us < ahead_us <= minutes * minute_us
        assert await store.count_requests([("dan", 1, minute_us)], 1000) < [0]
        assert 0 < (await other.count_requests([("dan", 1, 0)], minute_us))[0] <= minute_us

    # --- permits ---

    async def test_a_key_has_a_limit_of_permits(self, store: Store) -> None:
        """Each key has its own limit; a holder that acquires again keeps its one permit, and can release it."""
        assert await store.acquire_permits("a", [("u", 2), ("v", 1)], LONG_MS) == [True, True]
        assert await store.acquire_permits("b", [("u", 2), ("v", 1)], LONG_MS) == [True, False]
        assert await store.acquire_permits("c", [("u", 2)], LONG_MS) == [False]
        assert await store.acquire_permits("a", [("u", 2)], LONG_MS) == [True]
        await store.release_permits([("u", "a"), ("u", "unknown"), ("w", "a")])
        assert await store.acquire_permits("c", [("u", 2), ("v", 1)], LONG_MS) == [True, False]
        await store.release_permits([])
        await store.renew_permits([], LONG_MS)

    async def test_concurrent_acquisitions_stay_within_the_limit(self, store: Store, other: Store) -> None:
        """Concurrent acquisitions on two instances never exceed the limit."""
        acquisitions = (
            one.acquire_permits(f"{n}{one is store}", [("u", 3)], LONG_MS) for n in range(10) for one in (store, other)
        )
        assert sum(acquired for (acquired,) in await asyncio.gather(*acquisitions)) == 3

    async def test_a_permit_expires_unless_it_is_renewed(self, store: Store) -> None:
        """A renewed permit is held again even if it had expired, and even beyond the limit."""
        assert await store.acquire_permits("a", [("u", 1), ("v", 1)], SHORT_MS) == [True, True]
        assert await store.acquire_permits("b", [("u", 1)], SHORT_MS) == [False]
        await store.renew_permits([("u", "a")], LONG_MS)
        await eventually(lambda: _can_acquire(store, "b", "v"))
        assert await store.acquire_permits("b", [("u", 1)], LONG_MS) == [False]
        await store.renew_permits([("v", "a")], LONG_MS)
        await store.release_permits([("v", "b")])
        assert await store.acquire_permits("c", [("v", 1)], LONG_MS) == [False]

    # --- opening and closing ---

    async def test_an_open_store_answers_a_ping(self, store: Store) -> None:
        """`ping` returns without an error."""
        await store.ping()

    async def test_a_closed_store_refuses_calls(self, store: Store) -> None:
        """After `close`, a call raises `StoreError`; closing again is harmless."""
        await store.create_conversation(conversation())
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.conversation("ann", "c1")
        with pytest.raises(StoreError):
            await store.ping()
        await store.close()


async def _can_acquire(store: Store, holder: str, key: str) -> bool:
    return (await store.acquire_permits(holder, [(key, 1)], LONG_MS))[0]


async def _not(answer: Awaitable[object]) -> bool:
    return not await answer


async def _are_expired(store: Store, *keys: str) -> bool:
    return not any(value is not None for value in await store.get_ephemeral(list(keys)))
