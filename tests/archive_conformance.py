"""The conformance tests of the `Archive` protocol. The test class of each kind of database inherits them.

A subclass defines the fixture `archive`: an open archive with nothing in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.records import (
    Applied,
    ArchivedConversation,
    ArchivedMessage,
    ArchivedTurn,
    OutboxBatch,
    OutboxEntry,
    OutboxItem,
    RemovedConversation,
)
from store.archive.sql_archive import SqlArchive
from store.archive.types import INTEGER_MAX, MS_MAX, MS_MIN
from store.errors import NotFound
from store.records import DAY_MS, ConversationRecord, Counters, DayUsage, FeedbackFilter, MessageRecord
from store.search_text import message_text, parse_query, words
from tests.examples import examples

NOW = 1_795_247_464_123
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
"""Any text, with U+0000 and lone surrogates."""
_numbers = count(1)

in_many_examples = settings(
    max_examples=examples(10),
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)


def conversation(name: str = "c1", user: str = "ann", **fields: Any) -> ArchivedConversation:
    """Return a conversation as an outbox has it."""
    record: dict[str, Any] = {
        "title": "A title",
        "system": None,
        "model": None,
        "metadata": b"{}",
        "head": None,
        "revision": 1,
        "created_ms": NOW,
        "updated_ms": NOW,
    }
    around: dict[str, Any] = {"incarnation": "i1", "change": 1, "next_number": 1, "cleared": 0, "size": 100}
    record |= {key: value for key, value in fields.items() if key not in around}
    around |= {key: value for key, value in fields.items() if key in around}
    return ArchivedConversation(record=ConversationRecord(id=name, user=user, **record), **around)


def body_of(text: str, **fields: Any) -> bytes:
    """Return the body of a message with this text."""
    return json.dumps({"parts": [{"kind": "text", "text": text}], **fields}).encode()


def message(name: str = "m1", text: str = "hello", **fields: Any) -> ArchivedMessage:
    """Return a message as an outbox has it, by default in `c1`."""
    around: dict[str, Any] = {"conversation": "c1", "number": next(_numbers), "incarnation": "i1"}
    around |= {key: fields.pop(key) for key in (*around, "rated_ms", "rated_model") if key in fields}
    record: dict[str, Any] = {"parent": None, "role": "user", "created_ms": NOW, "body": body_of(text), "turn": "t1"}
    return ArchivedMessage(record=MessageRecord(id=name, **(record | fields)), **around)


def turn(name: str = "t1", **fields: Any) -> ArchivedTurn:
    """Return the usage of a turn, by default in `c1`."""
    values: dict[str, Any] = {
        "conversation": "c1",
        "incarnation": "i1",
        "model": "demo",
        "status": "completed",
        "ended_ms": NOW,
        "usage": Counters(1, 2, 3, 4, 5, 6),
    }
    return ArchivedTurn(turn=name, **(values | fields))


def entry(item: OutboxItem | None, change: int) -> OutboxEntry:
    """Return an entry of an outbox."""
    return OutboxEntry(member=f"member{change}".encode(), change=change, item=item)


def batch(*items: OutboxItem | None, user: str = "ann", after: int = 0) -> OutboxBatch:
    """Return a batch whose changes have the numbers after `after`."""
    return OutboxBatch(user=user, entries=tuple(entry(item, after + n) for n, item in enumerate(items, 1)))


async def put(archive: SqlArchive, *items: OutboxItem | None, user: str = "ann", after: int = 0) -> Applied:
    """Apply one batch, and return the result."""
    (applied,) = await archive.apply([batch(*items, user=user, after=after)])
    return applied


async def message_ids(archive: SqlArchive, *, user: str = "ann", name: str = "c1") -> list[str]:
    """Return the ids of a conversation's messages."""
    page, _ = await archive.messages(user, name, 1000, None, None)
    return [each.record.id for each in page]


async def found_ids(archive: SqlArchive, query: str, user: str = "ann") -> list[str]:
    """Return the ids of the conversations that a search finds."""
    found, _ = await archive.search(user, query, 100, None)
    return [each.record.id for each in found]


@contextmanager
def deleted_rows(archive: SqlArchive) -> Iterator[list[int]]:
    """Collect how many messages each statement deletes."""
    engine = archive._database._writing
    assert engine is not None
    found: list[int] = []

    def note(_: Any, cursor: Any, statement: str, *__: Any) -> None:
        if statement.startswith("DELETE FROM messages"):
            found.append(cursor.rowcount)

    event.listen(engine.sync_engine, "after_cursor_execute", note)
    yield found
    event.remove(engine.sync_engine, "after_cursor_execute", note)


def matches(query: str, said: str) -> bool:
    """Return whether a query finds a text, by the rules of `store.search_text`."""
    parsed, spaced = parse_query(query), f" {' '.join(words(said))} "
    found = [
        f" {' '.join(phrase)}{'' if parsed.ends_with_prefix and phrase is parsed.phrases[-1] else ' '}" in spaced
        for phrase in parsed.phrases
    ]
    return bool(found) and all(found) and not any(f" {' '.join(phrase)} " in spaced for phrase in parsed.excluded)


class ArchiveConformance:
    """The tests that every archive passes."""

    @in_many_examples
    @given(data=st.data())
    async def test_any_content_comes_back_exactly(self, archive: SqlArchive, data: st.DataObject) -> None:
        """Texts, bytes, numbers and times of a conversation and a message come back as they were."""
        user, name = f"user{next(_numbers)}" + data.draw(ANY_TEXT), "c" + data.draw(ANY_TEXT)
        some = st.none() | ANY_TEXT
        number = st.integers(-INTEGER_MAX, INTEGER_MAX)
        time = st.integers(MS_MIN, MS_MAX)
        stored = conversation(
            name,
            user,
            title=data.draw(ANY_TEXT),
            system=data.draw(some),
            model=data.draw(some),
            metadata=data.draw(st.binary(max_size=60)),
            head=data.draw(some),
            revision=data.draw(number),
            created_ms=data.draw(time),
            updated_ms=data.draw(time),
            messages=data.draw(number),
            usage=Counters(*data.draw(st.tuples(*[number] * 5, st.none() | number))),
            retention_days=data.draw(st.none() | st.integers(0, 2**31 - 1)),
            change=data.draw(number),
            next_number=data.draw(number),
            cleared=data.draw(number),
            size=data.draw(st.integers(0, 2**40)),
        )
        said = message(
            "m" + data.draw(ANY_TEXT),
            conversation=name,
            number=data.draw(number),
            parent=data.draw(some),
            role=data.draw(ANY_TEXT),
            turn=data.draw(some),
            created_ms=data.draw(time),
            body=data.draw(st.binary(max_size=60) | ANY_TEXT.map(body_of)),
            rating=data.draw(some),
        )
        if said.record.rating is not None:
            said = message(
                said.record.id,
                conversation=name,
                number=said.number,
                body=said.record.body,
                rating=said.record.rating,
                comment=data.draw(some),
                rated_ms=data.draw(time),
                rated_model=data.draw(some),
            )
        applied = await put(archive, stored, said, user=user)
        assert applied.poisoned == ()
        found = await archive.conversation(user, name)
        assert found is not None
        assert (found.record, found.incarnation, found.change) == (stored.record, stored.incarnation, stored.change)
        assert (found.next_number, found.cleared, found.size) == (stored.next_number, stored.cleared, stored.size)
        assert await archive.message(user, said.record.id) == said
        assert await archive.conversation_of(user, said.record.id) == name

    async def test_a_batch_is_applied_once(self, archive: SqlArchive) -> None:
        """If it is applied again, its entries are stale. The same items under new numbers are applied, and change nothing."""
        items = conversation(), message(), turn()
        first = await put(archive, *items)
        assert (len(first.done), first.stale_until, first.poisoned) == (3, None, ())
        assert (first.conversations, first.stored_bytes) == (1, 100)
        again = await put(archive, *items)
        assert (again.done, again.stale_until, again.poisoned) == ((), 3, ())
        renumbered = await put(archive, *items, after=10)
        assert (len(renumbered.done), renumbered.stale_until) == (3, None)
        assert (renumbered.conversations, renumbered.stored_bytes) == (1, 100)
        assert await archive.usage("ann", None, None) == Counters(1, 2, 3, 4, 5, 6)
        assert (await archive.usage_days("ann"))[0].turns == 1

    async def test_an_empty_batch_is_harmless(self, archive: SqlArchive) -> None:
        """So is a batch of what no longer exists."""
        assert await archive.apply([]) == []
        (applied,) = await archive.apply([batch()])
        assert (applied.done, applied.stale_until) == ((), None)
        assert len((await put(archive, None)).done) == 1

    async def test_a_late_batch_changes_nothing(self, archive: SqlArchive) -> None:
        """Entries up to the applied change are skipped, and the newer ones of the same batch are applied."""
        await put(archive, conversation(title="new", revision=5), after=10)
        late = OutboxBatch(
            user="ann",
            entries=(entry(conversation(title="old"), 3), entry(conversation("c2"), 12)),
        )
        (applied,) = await archive.apply([late])
        assert [each.change for each in applied.done] == [12]
        assert applied.stale_until == 11
        found = await archive.conversation("ann", "c1")
        assert found is not None
        assert found.record.title == "new"

    async def test_an_older_revision_changes_nothing(self, archive: SqlArchive) -> None:
        """Not even with a newer change, as after Redis has lost its last second."""
        await put(archive, conversation(title="new", revision=5, size=300))
        applied = await put(archive, conversation(title="old", revision=4, size=100), after=10)
        assert (len(applied.done), applied.stored_bytes) == (1, 300)
        found = await archive.conversation("ann", "c1")
        assert found is not None
        assert found.record.title == "new"

    async def test_a_message_may_arrive_before_its_conversation(self, archive: SqlArchive) -> None:
        """It is there at once, and the conversation's own entry completes it."""
        await put(archive, message("m1"), message("m2"))
        assert await message_ids(archive) == ["m1", "m2"]
        applied = await put(archive, conversation(title="it"), message("m3"), after=10)
        assert (applied.conversations, applied.stored_bytes) == (1, 100)
        assert await message_ids(archive) == ["m1", "m2", "m3"]
        found = await archive.conversation("ann", "c1")
        assert found is not None
        assert found.record.title == "it"

    async def test_a_new_incarnation_has_nothing_of_the_old_one(self, archive: SqlArchive) -> None:
        """The conversation was deleted and created again with the same id, and either entry may arrive first."""
        await put(archive, conversation(), message("m1", rating="up"))
        await put(archive, message("m2", incarnation="i2"), after=10)
        assert await message_ids(archive) == ["m2"]
        applied = await put(
            archive,
            RemovedConversation(conversation="c1", incarnation="i1"),
            conversation(incarnation="i2", title="again", size=7),
            after=20,
        )
        assert (applied.conversations, applied.stored_bytes) == (1, 7)
        assert await message_ids(archive) == ["m2"]
        await put(archive, conversation(incarnation="i3"), message("m3", incarnation="i3"), after=30)
        assert await message_ids(archive) == ["m3"]
        assert (await archive.list_feedback(FeedbackFilter(), 10, None))[0] == []

    async def test_a_deleted_conversation_takes_everything_but_the_usage_with_it(self, archive: SqlArchive) -> None:
        """Its messages and ratings are gone. Another incarnation stays, and so does another user's conversation."""
        await put(archive, conversation(), message(rating="up"), turn())
        await put(archive, conversation(user="bob"), message(), user="bob")
        kept = await put(archive, RemovedConversation(conversation="c1", incarnation="other"), after=10)
        assert (kept.conversations, kept.stored_bytes) == (1, 100)
        gone = await put(archive, RemovedConversation(conversation="c1", incarnation="i1"), after=20)
        assert (gone.conversations, gone.stored_bytes) == (0, 0)
        assert await archive.conversation("ann", "c1") is None
        assert await archive.message("ann", "m1") is None
        assert (await archive.list_feedback(FeedbackFilter(), 10, None))[0] == []
        assert await archive.usage("ann", None, None) == Counters(1, 2, 3, 4, 5, 6)
        assert await message_ids(archive, user="bob") == ["m1"]
        again = await put(archive, RemovedConversation(conversation="c1", incarnation="i1"), after=30)
        assert len(again.done) == 1

    @pytest.mark.parametrize("is_bulky", [False, True])
    async def test_a_long_conversation_is_deleted_in_steps(
        self, archive: SqlArchive, monkeypatch: pytest.MonkeyPatch, is_bulky: bool
    ) -> None:
        """No transaction deletes more messages than a step has, and a step has few messages if they are large.

        The conversation of another user with the same id stays, and so does what came in the same batch.
        """
        step = 3 if is_bulky else 7
        monkeypatch.setattr(
            "store.archive.eraser.STEP_BYTES" if is_bulky else "store.archive.eraser.STEP_ROWS",
            2 * len(body_of("hello")) if is_bulky else step,
        )
        messages = [message(f"m{n}", rating="up" if n % 5 == 0 else None) for n in range(40)]
        await put(archive, conversation(incarnation=""), *messages)
        await put(archive, conversation(user="bob"), *messages, user="bob")
        with deleted_rows(archive) as deleted:
            gone = await put(
                archive,
                conversation("c2"),
                conversation(revision=2),
                RemovedConversation(conversation="c1", incarnation="i1"),
                conversation(incarnation="i2"),
                RemovedConversation(conversation="c1", incarnation="i2"),
                conversation(incarnation="i3"),
                message("new", incarnation="i3"),
                after=100,
            )
        assert (len(gone.done), gone.conversations) == (7, 2)
        assert (sum(deleted), max(deleted)) == (40, step)
        assert await message_ids(archive) == ["new"]
        assert len(await message_ids(archive, user="bob")) == 40
        assert {each.user for each in (await archive.list_feedback(FeedbackFilter(), 100, None))[0]} == {"bob"}
        with deleted_rows(archive) as deleted:
            await archive.erase("bob")
        assert (sum(deleted), max(deleted)) == (40, step)

    async def test_two_users_may_have_the_same_ids(self, archive: SqlArchive) -> None:
        """Each sees only its own."""
        for user in ("ann", "bob"):
            await put(archive, conversation(title=user), message(text=user), turn(), user=user)
        for user in ("ann", "bob"):
            found = await archive.conversation(user, "c1")
            assert found is not None
            assert found.record.title == user
            assert await found_ids(archive, user, user) == ["c1"]
        assert await found_ids(archive, "bob", "ann") == []
        for read in (
            archive.message("eve", "m1"),
            archive.conversation("eve", "c1"),
            archive.conversation_of("eve", "m1"),
        ):
            assert await read is None

    async def test_many_instances_apply_at_once(self, archive: SqlArchive) -> None:
        """They never wait for each other forever, and each entry is counted once, whatever the order of the users."""
        users = [f"user{n}" for n in range(12)]
        order = random.Random(7)

        async def instance(number: int) -> None:
            for round_ in range(4):
                mixed = order.sample(users, 8)
                await archive.apply(
                    [
                        batch(
                            conversation(f"c{number}", user),
                            turn(f"t{number}.{round_}"),
                            user=user,
                            after=1000 * (4 * round_ + number),
                        )
                        for user in mixed
                    ]
                )

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for number in range(4):
                tasks.create_task(instance(number))
        for user in users:
            days = await archive.usage_days(user)
            listed, _ = await archive.conversations(user, 100, None)
            (applied,) = await archive.apply([batch(None, user=user, after=10**6)])
            assert applied.conversations == len(listed)
            assert sum(day.turns for day in days) == sum(day.usage.input_tokens for day in days)

    @pytest.mark.parametrize(
        ("item", "reason"),
        [
            (conversation(revision=2**63), "revision is beyond 64 bits"),
            (conversation(updated_ms=MS_MAX + 1), "updated_ms is outside the years 1 to 9999"),
            (conversation(retention_days=-1), "retention_days is out of range"),
            (message(created_ms=MS_MIN - 1), "created_ms is outside the years 1 to 9999"),
            (message(number=-(2**63)), "number is beyond 64 bits"),
            (turn(usage=Counters(cost_nano=10**30)), "cost_nano is beyond 64 bits"),
            (turn(ended_ms=10**18), "ended_ms is outside the years 1 to 9999"),
        ],
    )
    async def test_what_no_database_can_hold_is_poisoned(
        self, archive: SqlArchive, item: OutboxItem, reason: str
    ) -> None:
        """The other entries are applied, and the reason names the field."""
        applied = await put(archive, conversation("c2"), item, message("m2", conversation="c2"))
        assert [(each.change, why) for each, why in applied.poisoned] == [(2, reason)]
        assert [each.change for each in applied.done] == [1, 3]
        assert await message_ids(archive, name="c2") == ["m2"]
        assert (await put(archive, item)).stale_until == 3

    async def test_what_the_database_refuses_is_poisoned(self, archive: SqlArchive) -> None:
        """Two of 60 entries of three users are refused, and all others are applied."""
        await self.refuse_messages(archive, "poison%")
        batches = []
        for user in ("ann", "bob", "cid"):
            items: list[OutboxItem] = [conversation(user=user)]
            items += [
                message(f"m{n}", turn=f"poison{n}" if (user, n) in {("ann", 7), ("cid", 0)} else "t") for n in range(19)
            ]
            batches.append(batch(*items, user=user))
        results = await archive.apply(batches)
        assert [[each.change for each, _ in applied.poisoned] for applied in results] == [[9], [], [2]]
        assert [len(applied.done) for applied in results] == [19, 20, 19]
        for applied in results:
            assert all("refuses it" in reason and "poison" not in reason for _, reason in applied.poisoned)
            assert (applied.conversations, applied.stored_bytes) == (1, 100)
        assert len(await message_ids(archive, user="ann")) == 18
        assert len(await message_ids(archive, user="bob")) == 19

    async def refuse_messages(self, archive: SqlArchive, pattern: str) -> None:
        """Let the database refuse messages whose turn id matches `pattern`, as in LIKE."""
        raise NotImplementedError

    async def test_a_message_of_20_mb_is_kept(self, archive: SqlArchive) -> None:
        """So is its text, of which the beginning can be found."""
        long = message(body=body_of("Beginning " + "word " * 1_000_000 + os.urandom(7_000_000).hex()))
        assert (await put(archive, conversation(), long)).poisoned == ()
        assert await archive.message("ann", "m1") == long
        (found,), _ = await archive.search("ann", "beginning", 10, None)
        assert found.snippet is not None
        assert found.snippet.lower().startswith("beginning word word")

    @pytest.mark.parametrize(
        "worst",
        [
            "x" * 100_000,
            " ".join(f"{n:x}" * 3 for n in range(20_000)),
            "\ufdfa" * 100_000,
            "".join(chr(0x4E00 + n % 20_000) for n in range(100_000)),
        ],
        ids=["one word", "many words", "expanding characters", "chinese"],
    )
    async def test_the_worst_texts_are_kept(self, archive: SqlArchive, worst: str) -> None:
        """The database limits the size of an entry of its index, and no text exceeds that."""
        applied = await put(archive, conversation(), message(text=worst))
        assert applied.poisoned == ()
        assert await found_ids(archive, worst[:30]) == ["c1"]

    async def test_pages_of_messages(self, archive: SqlArchive) -> None:
        """A page is bounded in number and bytes, and has the newest messages before a given message or number."""
        items = [message(f"m{n}", number=10 * n, body=b"x" * 100) for n in range(1, 8)]
        await put(archive, conversation(), *items)

        async def page(limit: int, before: str | int | None, bytes_max: int | None = None) -> tuple[str, bool]:
            found, has_older = await archive.messages("ann", "c1", limit, before, bytes_max)
            return "".join(each.record.id[1] for each in found), has_older

        assert await page(3, None) == ("567", True)
        assert await page(3, "m4") == ("123", False)
        assert await page(2, 35) == ("23", True)
        assert await page(100, None) == ("1234567", False)
        assert await page(7, None) == ("1234567", False)
        assert await page(5, None, 250) == ("67", True)
        assert await page(5, None, 1) == ("7", True)
        assert await page(5, "m2", 1) == ("1", False)
        assert await page(5, "m1") == ("", False)
        assert await page(5, 0) == ("", False)
        newest, has_older = await archive.newest("ann", "c1", 2, 10**6)
        assert ([each.number for each in newest], has_older) == ([60, 70], True)
        assert await archive.newest("ann", "none", 2, 10**6) == ([], False)
        await put(archive, conversation("c2"), message("other", conversation="c2"), after=100)
        for name, before, field in (
            ("none", None, "conversation"),
            ("c1", "none", "before"),
            ("c1", "other", "before"),
        ):
            with pytest.raises(NotFound) as raised:
                await archive.messages("ann", name, 5, before, None)
            assert raised.value.field == field

    async def test_branches(self, archive: SqlArchive) -> None:
        """A branch goes from a message to the root, and its newest messages fit in a number of bytes."""
        body = b"x" * 100
        await put(
            archive,
            conversation(),
            message("root", body=body),
            message("a", parent="root", body=body),
            message("b", parent="root", body=body),
            message("a2", parent="a", body=body, rating="up", rated_ms=NOW),
            message("lost", parent="gone", body=body),
        )

        async def branch(
            last: str, bytes_max: int | None = None, count_max: int | None = None
        ) -> tuple[list[str], int]:
            found, left_out = await archive.branch("ann", "c1", last, bytes_max, count_max)
            return [each.record.id for each in found], left_out

        assert await branch("a2") == (["root", "a", "a2"], 0)
        assert await branch("b") == (["root", "b"], 0)
        assert await branch("a2", 200) == (["a", "a2"], 1)
        assert await branch("a2", 1) == (["a2"], 2)
        assert await branch("a2", None, 2) == (["a", "a2"], 1)
        assert await branch("a2", 200, 3) == (["a", "a2"], 1)
        assert await branch("lost") == (["lost"], 0)
        for name, last in (("c1", "none"), ("c2", "a")):
            with pytest.raises(NotFound) as raised:
                await archive.branch("ann", name, last, None)
            assert raised.value.field == "parent"

    async def test_a_branch_whose_messages_arrive_in_another_order(self, archive: SqlArchive) -> None:
        """The messages that are left out are counted, also those whose parents were archived later than they."""
        chain = [message(f"m{n}", parent=f"m{n - 1}" if n else None, number=n + 1) for n in range(12)]
        await put(archive, conversation(), *chain[:3][::-1])
        await put(archive, *chain[5:8], after=100)
        await put(archive, *chain[3:5], after=200)
        await put(archive, *chain[8:], after=300)
        for n in range(12):
            found, left_out = await archive.branch("ann", "c1", f"m{n}", 1)
            assert ([each.record.id for each in found], left_out) == ([f"m{n}"], n)

    async def test_the_list_of_conversations(self, archive: SqlArchive) -> None:
        """The last changed ones are first, in pages."""
        await put(
            archive, *(conversation(f"c{n}", change=n) for n in range(1, 6)), conversation("c2", change=9, revision=2)
        )

        async def listed(limit: int, before: str | None) -> tuple[str, bool]:
            found, has_more = await archive.conversations("ann", limit, before)
            return "".join(each.id[1] for each in found), has_more

        assert await listed(2, None) == ("25", True)
        assert await listed(2, "c5") == ("43", True)
        assert await listed(2, "c3") == ("1", False)
        assert await listed(2, "c1") == ("", False)
        assert await archive.conversations("bob", 5, None) == ([], False)
        with pytest.raises(NotFound):
            await archive.conversations("bob", 5, "c1")

    async def test_feedback(self, archive: SqlArchive) -> None:
        """It is listed over all users, newest first, in pages, and by model, rating and time."""
        for n, user in enumerate(("ann", "bob", "cid")):
            rated = message(
                f"m{n}", rating=("up", "down")[n % 2], comment="!", rated_ms=NOW + n // 2, rated_model=f"model{n}"
            )
            await put(archive, conversation(user=user), rated, user=user)

        async def listed(limit: int = 9, before: tuple[int, str] | None = None, **selected: Any) -> tuple[str, bool]:
            found, has_more = await archive.list_feedback(FeedbackFilter(**selected), limit, before)
            return "".join(each.message[1] for each in found), has_more

        assert await listed() == ("210", False)
        assert await listed(2) == ("21", True)
        assert await listed(2, (NOW, "m1")) == ("0", False)
        assert await listed(model="model1") == ("1", False)
        assert await listed(rating="up") == ("20", False)
        assert await listed(since_ms=NOW + 1) == ("2", False)
        assert await listed(until_ms=NOW + 1) == ("10", False)
        (first, *_), _ = await archive.list_feedback(FeedbackFilter(), 9, None)
        assert (first.user, first.conversation, first.turn, first.model) == ("cid", "c1", "t1", "model2")
        assert (first.rating, first.comment, first.rated_ms) == ("up", "!", NOW + 1)
        await put(archive, message("m0", rating="-1", rated_ms=NOW + 5), after=10)
        assert await listed() == ("021", False)

    async def test_usage(self, archive: SqlArchive) -> None:
        """It is summed by user, by conversation, and from any ms on, over all models and days."""
        day = NOW // DAY_MS * DAY_MS
        times = [day - 1, day, day + 5, day + DAY_MS - 1, day + DAY_MS, day + 9 * DAY_MS + 5]
        usage = Counters(10, 20, 0, 0, 0, None)
        await put(
            archive,
            conversation(usage=Counters(7, 7)),
            *(turn(f"t{n}", ended_ms=time, model=f"m{n % 2}", usage=usage) for n, time in enumerate(times)),
            turn("stateless", conversation=None, incarnation=None, ended_ms=times[-1], usage=Counters(cost_nano=5)),
        )
        for since in [*times, *(time + 1 for time in times), 0, MS_MIN - 5, MS_MAX + 5]:
            expected = 10 * sum(time >= since for time in times)
            found = await archive.usage("ann", None, since)
            assert (found.input_tokens, found.output_tokens) == (expected, 2 * expected), since
            assert found.cost_nano == (5 if since <= times[-1] else None)
            assert (await archive.usage("ann", "c1", since)).input_tokens == expected
        assert await archive.usage("ann", None, None) == Counters(60, 120, 0, 0, 0, 5)
        assert await archive.usage("ann", "c1", None) == Counters(7, 7)
        assert await archive.usage("bob", None, None) == Counters()
        days = await archive.usage_days("ann")
        assert [(each.day_ms - day) // DAY_MS for each in days] == [-1, 0, 1, 9]
        assert days[1] == DayUsage(day_ms=day, turns=3, usage=Counters(30, 60))
        with pytest.raises(NotFound):
            await archive.usage("bob", "c1", None)

    async def test_an_id_that_is_used_again_a_day_later_is_another_turn(self, archive: SqlArchive) -> None:
        """Its usage counts, once. The same turn may end twice within a day, and counts once too."""
        first, later = NOW, NOW + DAY_MS
        await put(archive, turn(ended_ms=first), turn(ended_ms=first + 1000))
        for n in range(2):
            await put(
                archive, turn(ended_ms=later), turn(ended_ms=later + DAY_MS), turn(ended_ms=first), after=10 + 5 * n
            )
        assert [day.turns for day in await archive.usage_days("ann")] == [1, 1, 1]
        assert (await archive.usage("ann", None, later)).input_tokens == 2
        assert (await archive.usage("ann", None, None)).input_tokens == 3

    async def test_sums_stay_at_the_largest_number(self, archive: SqlArchive) -> None:
        """They don't fail, and they don't become negative."""
        for n in range(3):
            applied = await put(archive, turn(f"t{n}", usage=Counters(INTEGER_MAX - 1, cost_nano=INTEGER_MAX)), after=n)
            assert applied.poisoned == ()
        assert (await archive.usage("ann", None, None)).input_tokens == INTEGER_MAX

    async def test_expired_conversations(self, archive: SqlArchive) -> None:
        """A conversation's own days override the setting, and 0 means forever in both."""
        old: dict[str, Any] = {"updated_ms": NOW - 10 * DAY_MS}
        await put(
            archive,
            conversation("own", retention_days=9, **old),
            conversation("forever", retention_days=0, **old),
            conversation("default", **old),
            conversation("longer", retention_days=11, **old),
            conversation("older", updated_ms=NOW - 20 * DAY_MS),
            conversation("now"),
        )

        async def expired(days: int, limit: int = 9) -> list[str]:
            found = await archive.expired(NOW, days, limit)
            assert {user for user, _ in found} <= {"ann"}
            return [name for _, name in found]

        assert await expired(0) == ["own"]
        assert await expired(9) == ["older", "default", "own"]
        assert await expired(15) == ["older", "own"]
        assert await expired(9, 1) == ["older"]
        assert await expired(10**9) == ["own"]

    async def test_erasure(self, archive: SqlArchive) -> None:
        """The user has nothing left, and another user loses nothing."""
        for user in ("ann", "bob"):
            await put(archive, conversation(user=user), message(rating="up"), turn(), user=user)
        await archive.erase("ann")
        await archive.erase("ann")
        assert await archive.conversation("ann", "c1") is None
        assert await archive.usage("ann", None, None) == Counters()
        assert await message_ids(archive, user="bob") == ["m1"]
        status = await archive.status()
        assert (status.users, status.conversations, status.stored_bytes) == (1, 1, 100)
        assert (await put(archive, conversation())).stale_until is None

    async def test_the_search(self, archive: SqlArchive) -> None:
        """Titles and messages are searched; words, phrases, beginnings and exclusions are understood."""
        said = {
            "c1": "The quick brown fox jumps over the lazy dog",
            "c2": "Der Fuchs springt über den faulen Hund. Straße!",
            "c3": "敏捷的棕色狐狸跳过了懒狗",
            "c4": "a dog, quick, and nothing brown",
            "c5": "line\none 100% _under_ 'quoted' back\\slash \"double\" :* | & ! <->",
        }
        items: list[OutboxItem] = []
        for n, (name, content) in enumerate(said.items()):
            items += [conversation(name, title=f"Title {name}", change=n + 1)]
            items += [
                message(f"{name}.old", "nothing", conversation=name),
                message(f"{name}.m", content, conversation=name),
            ]
        await put(archive, *items)
        for query, expected in {
            "quick": "41",
            "QUICK dog": "41",
            '"quick brown"': "1",
            '"brown quick"': "",
            "quick -lazy ": "4",
            "jum": "1",
            '"jum"': "",
            "qui": "41",
            "strasse": "2",
            "ÜBER": "2",
            "狐狸": "3",
            "狸狐": "",
            "title c": "54321",
            "TITLE C3": "3",
            "-lazy": "",
            "one 100": "5",
            "under": "5",
            'double" OR 1': "",
            "' | & ! :* \\": "",
            "*": "",
            "x" * 400 + " " + "y" * 3000: "",
            '"' * 200: "",
        }.items():
            assert "".join(name[1] for name in await found_ids(archive, query)) == expected, query
        (first, *_), has_more = await archive.search("ann", "dog", 1, None)
        assert (first.message, first.snippet, has_more) == ("c4.m", said["c4"], True)
        (second,), has_more = await archive.search("ann", "dog", 1, "c4")
        assert (second.record.id, second.message, has_more) == ("c1", "c1.m", False)
        (titled,), _ = await archive.search("ann", "title c2", 1, None)
        assert (titled.message, titled.snippet) == (None, None)
        with pytest.raises(NotFound):
            await archive.search("ann", "dog", 1, "none")
        await put(archive, message("c1.m", "now a cat", conversation="c1"), after=100)
        assert await found_ids(archive, "jumps") == []
        assert await found_ids(archive, "cat") == ["c1"]

    @in_many_examples
    @given(said=ANY_TEXT, query=ANY_TEXT)
    async def test_any_query_is_harmless(self, archive: SqlArchive, said: str, query: str) -> None:
        """A search never fails, and finds what the rules of the search say."""
        user = f"user{next(_numbers)}"
        item = message(text="before " + said + " after")
        await put(archive, conversation(title="", user=user), item, user=user)
        for each in (query, said, f'"before {said}"'):
            is_found = matches(each, message_text(item.record.body)) or not each
            assert await found_ids(archive, each, user) == (["c1"] if is_found else []), each

    async def test_the_newest_message_that_matches_is_found(self, archive: SqlArchive) -> None:
        """Of several, the snippet is from the newest."""
        await put(archive, conversation(), message("m1", "a dog"), message("m2", "the dog"), message("m3", "a cat"))
        (found,), _ = await archive.search("ann", "dog", 10, None)
        assert (found.message, found.snippet) == ("m2", "the dog")

    async def test_the_columns_of_a_message(self, archive: SqlArchive) -> None:
        """The values that operators query are taken from the body."""
        body = body_of(
            "hello",
            model="openai/gpt-5",
            provider="openai",
            usage={"input_tokens": 5, "output_tokens": 7},
            cost={"amount": "0.000123456", "currency": "USD"},
            ended="completed",
            finish_reason="stop",
        )
        await put(archive, conversation(), message(body=body))
        columns = "model, provider, input_tokens, output_tokens, reasoning_tokens, cost_nano, ended, finish_reason"
        rows = await self.query(archive, f"SELECT {columns} FROM messages")
        assert rows == [("openai/gpt-5", "openai", 5, 7, None, 123456, "completed", "stop")]

    async def query(self, archive: SqlArchive, statement: str) -> list[tuple[Any, ...]]:
        """Run a SQL statement, and return its rows."""

        async def work(connection: AsyncConnection) -> list[tuple[Any, ...]]:
            result = await connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

        return await archive._database.write(work)

    async def test_times_are_readable(self, archive: SqlArchive) -> None:
        """A query of the database shows the time with its zone, to the ms."""
        await put(archive, conversation(created_ms=NOW, updated_ms=-1))
        ((created, updated),) = await self.query(archive, "SELECT created_at, updated_at FROM conversations")
        assert str(created).startswith("2026-11-21 07:51:04.123") or "2026-11" in str(created)
        assert "1969-12-31 23:59:59.999" in str(updated)
