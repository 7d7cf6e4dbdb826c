"""How a store accepts a turn."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from store.api import Store
from store.errors import Conflict
from tests.conformance.base import Conformance
from tests.stored import NOW, conversation, message, missing, new_turn, run


class Accepting(Conformance):
    """How a store accepts a turn."""

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
