"""Turns of a conversation that has live turns."""

from __future__ import annotations

import pytest

from store.api import Store
from store.errors import Busy
from tests.conformance.base import Conformance
from tests.stored import conversation, ending, missing, new_turn, run, running, stateless_turn


class BusyConversations(Conformance):
    """Turns of a conversation that has live turns."""

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
