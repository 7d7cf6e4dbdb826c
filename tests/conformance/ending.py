"""How a store ends a turn."""

from __future__ import annotations

import msgspec
import pytest

from store.api import Store
from store.errors import Fenced, LogGap
from store.records import Counters
from tests.conformance.base import Conformance
from tests.stored import (
    LONG_MS,
    NOW,
    conversation,
    ending,
    entry,
    missing,
    new_turn,
    piece,
    run,
    running,
    stateless_turn,
)


class Endings(Conformance):
    """How a store ends a turn."""

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
