"""Changing and deleting conversations."""

from __future__ import annotations

import msgspec

from store.api import Store
from store.records import Change, Counters, FeedbackFilter
from tests.conformance.base import Conformance
from tests.stored import HOUR, NOW, conversation, ending, missing, new_turn, run, running


class Changing(Conformance):
    """Conversations are changed and deleted, and their ids are used again."""

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
