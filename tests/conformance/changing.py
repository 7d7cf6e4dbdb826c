"""Changing and deleting conversations, and feedback."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from store.api import Store
from store.records import Change, Counters, FeedbackFilter, FeedbackRecord
from tests.conformance.base import Conformance
from tests.stored import (
    HOUR,
    NOW,
    body,
    conversation,
    ending,
    entry,
    in_many_examples,
    message,
    missing,
    new_turn,
    numbers,
    piece,
    run,
    running,
    stateless_turn,
)


class Changing(Conformance):
    """Changing and deleting conversations, and feedback."""

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
        prefix = f"{next(numbers)}"
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
