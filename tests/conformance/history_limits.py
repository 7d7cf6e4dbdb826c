"""What a user may store."""

from __future__ import annotations

from typing import Any

from store.api import Store
from store.records import Change, TurnLimits
from tests.conformance.base import Conformance
from tests.stored import NOW, conversation, ending, limited, message, new_turn, run, stateless_turn


class HistoryLimits(Conformance):
    """What a user may store."""

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
