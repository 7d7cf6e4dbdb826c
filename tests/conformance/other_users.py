"""Users are separate (law 12)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.api import Store
from store.records import Change, FeedbackFilter
from tests.conformance.base import Conformance
from tests.stored import (
    NOW,
    READS_AND_WRITES,
    body,
    conversation,
    ending,
    in_many_examples,
    message,
    missing,
    new_turn,
    numbers,
    run,
)


class OtherUsers(Conformance):
    """No user sees or changes anything of another user, even if their ids are the same (law 12)."""

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
