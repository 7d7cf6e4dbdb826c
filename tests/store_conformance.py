"""What every store must do: a suite that a backend's test module inherits and gives a factory to.

It knows the `Store` protocol alone. A subclass provides the fixture `store`: an open store with nothing in it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from store.base import (
    Accepted,
    Change,
    Conflict,
    ConversationRecord,
    Counters,
    EndedTurn,
    MessageRecord,
    NewTurn,
    NotFound,
    Store,
    StoreError,
)

NOW = 1_795_247_464_000
HOUR = 3_600_000
_numbers = itertools.count(1)


def conversation(name: str = "c1", user: str = "ann", at: int = NOW, **fields: Any) -> ConversationRecord:
    """A new conversation's record."""
    blank: dict[str, Any] = {"title": "", "system": None, "model": None, "metadata": b"{}", "head": None}
    return ConversationRecord(id=name, user=user, revision=0, created_ms=at, updated_ms=at, **{**blank, **fields})


def message(name: str, **fields: Any) -> MessageRecord:
    """A user's message."""
    return MessageRecord(
        **{"id": name, "parent": None, "role": "user", "created_ms": NOW, "body": name.encode(), **fields}
    )


def new_turn(turn: str = "t1", user: str = "ann", **fields: Any) -> NewTurn:
    """A turn in conversation `c1` whose messages are named after it."""
    common: dict[str, Any] = {
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
        "parent_pending": False,
        "model": "demo",
        "now_ms": NOW + next(_numbers),
    }
    return NewTurn(user=user, turn=turn, **{**common, **fields})


def ending(new: NewTurn, accepted: Accepted, **fields: Any) -> EndedTurn:
    """The good ending of an accepted turn."""
    answer = message(new.message, parent=accepted.turn.parent, role="assistant", turn=new.turn)
    common: dict[str, Any] = {
        "epoch": new.epoch,
        "status": "completed",
        "seq": 9,
        "ending": b"the ending",
        "answer": answer,
        "usage": Counters(1, 2, 3, 4, 5, 6),
        "now_ms": NOW + next(_numbers),
    }
    return EndedTurn(user=new.user, turn=new.turn, **{**common, **fields})


async def run(store: Store, new: NewTurn, **fields: Any) -> EndedTurn:
    """Accept a turn and end it."""
    ended = ending(new, await store.accept(new), **fields)
    await store.end(ended)
    return ended


async def missing(answer: Awaitable[object]) -> str:
    """What the store says isn't there."""
    with pytest.raises(NotFound) as raised:
        await answer
    return raised.value.what


READS_AND_WRITES: dict[str, tuple[Callable[[Store, str], Awaitable[object]], str]] = {
    "conversation": (lambda store, user: store.conversation(user, "c1"), "conversation"),
    "messages": (lambda store, user: store.messages(user, "c1", 10, None), "conversation"),
    "update": (
        lambda store, user: store.update_conversation(user, "c1", Change(title="x"), NOW),
        "conversation",
    ),
    "clear": (lambda store, user: store.clear_conversation(user, "c1", NOW), "conversation"),
    "delete": (lambda store, user: store.delete_conversation(user, "c1"), "conversation"),
    "usage": (lambda store, user: store.usage(user, "c1", None), "conversation"),
    "message": (lambda store, user: store.message(user, "t1.answer"), "message"),
    "feedback": (lambda store, user: store.put_feedback(user, "t1.answer", "up", None, NOW), "message"),
    "branch": (lambda store, user: store.branch(user, "c1", "t1.answer"), "parent"),
    "turn": (lambda store, user: store.turn(user, "t1"), "turn"),
    "list": (lambda store, user: store.conversations(user, 10, "c1", None), "before"),
}


class StoreConformance:
    """The laws of a store."""

    # --- accepting ---

    async def test_a_turn_is_accepted_with_its_question(self, store: Store) -> None:
        """Law 6: accepting keeps the turn, its question and its place in one step."""
        await store.create_conversation(conversation())
        accepted = await store.accept(new_turn())
        assert accepted.fresh
        turn = accepted.turn
        assert (turn.turn, turn.conversation, turn.status, turn.epoch) == ("t1", "c1", "running", NOW)
        assert (turn.message, turn.parent, turn.model) == ("t1.answer", "t1.question", "demo")
        assert (turn.ending, turn.stateless_message, turn.digest) == (None, None, b"digest")
        assert accepted.input == message("t1.question", turn="t1")
        assert accepted.conversation == await store.conversation("ann", "c1")
        assert accepted.conversation is not None
        assert accepted.conversation.revision == 1
        assert accepted.conversation.messages == 1
        assert await store.turn("ann", "t1") == turn
        assert await store.message("ann", "t1.question") == accepted.input

    async def test_without_a_conversation_one_is_made(self, store: Store) -> None:
        """A start that names none makes one, with the title of its first words."""
        new = new_turn(conversation=None, new_conversation=conversation("c9", model="demo", system="Be brief."))
        accepted = await store.accept(new)
        assert accepted.turn.conversation == "c9"
        kept = await store.conversation("ann", "c9")
        assert (kept.title, kept.model, kept.system, kept.head) == ("A title", "demo", "Be brief.", None)

    async def test_a_repeated_start_answers_the_turn_that_is_there(self, store: Store) -> None:
        """Law 6: the same id with the same content is the same turn, and changes nothing."""
        await store.create_conversation(conversation())
        first = await store.accept(new_turn())
        again = await store.accept(new_turn(message="other.answer", input=message("other.question"), epoch=NOW + 5))
        assert not again.fresh
        assert again.turn == first.turn
        assert await missing(store.message("ann", "other.question")) == "message"
        assert (await store.conversation("ann", "c1")).messages == 1

    async def test_a_repeated_start_answers_an_ended_turn_for_a_day(self, store: Store) -> None:
        """Law 6: for 24 h after its ending an id is that turn; then it may be used again, and its usage
        stays."""
        await store.create_conversation(conversation())
        new = new_turn()
        ended = await run(store, new)
        day = ended.now_ms + 24 * HOUR
        again = await store.accept(replace(new, now_ms=day - 1))
        assert not again.fresh
        assert again.turn.status == "completed"
        other = new_turn(message="new.answer", input=message("new.question"), digest=b"other", now_ms=day + 1)
        assert (await store.accept(other)).fresh
        assert (await store.usage("ann", None, None)).output_tokens == 2

    async def test_the_same_id_with_another_content_is_a_conflict(self, store: Store) -> None:
        """Law 6: the id of another request is refused, and nothing of the new one is kept."""
        await store.create_conversation(conversation())
        await store.accept(new_turn())
        with pytest.raises(Conflict):
            await store.accept(new_turn(digest=b"other", input=message("other.question")))
        assert await missing(store.message("ann", "other.question")) == "message"

    async def test_ids_of_turns_are_each_users_own(self, store: Store) -> None:
        """Law 12: the same turn id of another user is another turn."""
        await store.create_conversation(conversation())
        await store.create_conversation(conversation("c2", "bob"))
        await store.accept(new_turn())
        other = await store.accept(
            new_turn(user="bob", conversation="c2", digest=b"o", input=message("b.question"), message="b.answer")
        )
        assert other.fresh

    async def test_of_two_starts_at_once_one_is_fresh(self, store: Store) -> None:
        """Law 6: acceptance is atomic; the loser of a race gets the winner's turn."""
        await store.create_conversation(conversation())
        starts = [store.accept(new_turn(message=f"a{n}", input=message(f"q{n}"))) for n in range(8)]
        accepted = await asyncio.gather(*starts)
        assert sorted(one.fresh for one in accepted) == [False] * 7 + [True]
        assert len({one.turn.message for one in accepted}) == 1

    @pytest.mark.parametrize("where", [{"conversation": "nowhere"}, {"user": "bob"}])
    async def test_a_turn_in_no_conversation_of_the_user_is_refused(self, store: Store, where: dict[str, str]) -> None:
        """Law 12: a conversation that isn't there, or is another user's, isn't found; the id stays free."""
        await store.create_conversation(conversation())
        assert await missing(store.accept(new_turn(**where))) == "conversation"
        assert await missing(store.turn(where.get("user", "ann"), "t1")) == "turn"

    async def test_a_parent_must_be_in_the_conversation(self, store: Store) -> None:
        """Law 12: neither an unknown message nor one of another conversation or user can be answered."""
        for name, user in (("c1", "ann"), ("c2", "ann"), ("c3", "bob")):
            await store.create_conversation(conversation(name, user))
            await run(store, new_turn(f"in-{name}", user, conversation=name))
        for parent in ("unknown", "in-c2.answer", "in-c3.answer"):
            assert await missing(store.accept(new_turn(parent=parent))) == "parent"
        assert await missing(store.turn("ann", "t1")) == "turn"
        accepted = await store.accept(new_turn(parent="in-c1.question"))
        assert accepted.input is not None
        assert accepted.input.parent == "in-c1.question"

    async def test_a_parent_may_be_still_to_come(self, store: Store) -> None:
        """A queued turn's parent is the answer of the turn ahead, which isn't there yet."""
        await store.create_conversation(conversation())
        await store.accept(new_turn("first"))
        second = await store.accept(new_turn("second", parent="first.answer", parent_pending=True))
        assert second.input is not None
        assert second.input.parent == "first.answer"

    async def test_a_turn_without_input_answers_its_parent_again(self, store: Store) -> None:
        """`parent` at a user message without input regenerates: the new answer is that message's child."""
        await store.create_conversation(conversation())
        await run(store, new_turn("first"))
        again = await store.accept(new_turn("again", input=None, parent="first.question"))
        assert again.input is None
        assert again.turn.parent == "first.question"

    async def test_a_title_is_given_once(self, store: Store) -> None:
        """The first words name a conversation that has no title; a title that is there stays."""
        await store.create_conversation(conversation())
        await store.create_conversation(conversation("c2", title="Mine"))
        await store.accept(new_turn("a", title="First"))
        await store.accept(new_turn("b", title="Second"))
        await store.accept(new_turn("c", conversation="c2", title="Third"))
        assert (await store.conversation("ann", "c1")).title == "First"
        assert (await store.conversation("ann", "c2")).title == "Mine"

    # --- ending ---

    async def test_an_ending_is_stored_with_all_that_belongs_to_it(self, store: Store) -> None:
        """Law 3: ending, answer, usage and head in one step."""
        await store.create_conversation(conversation())
        new = new_turn()
        accepted = await store.accept(new)
        kept = await store.end(ending(new, accepted))
        assert kept == await store.conversation("ann", "c1")
        assert kept is not None
        assert (kept.head, kept.revision, kept.messages) == ("t1.answer", 2, 2)
        assert kept.usage == Counters(1, 2, 3, 4, 5, 6)
        turn = await store.turn("ann", "t1")
        assert (turn.status, turn.seq, turn.ending) == ("completed", 9, b"the ending")
        assert turn.stateless_message is None
        answer = await store.message("ann", "t1.answer")
        assert (answer.parent, answer.role, answer.turn) == ("t1.question", "assistant", "t1")
        assert await store.unfinished() == []

    async def test_ending_again_changes_nothing(self, store: Store) -> None:
        """Law 3: an ending whose answer was lost on the way may be stored again; it counts once, the first
        stays."""
        await store.create_conversation(conversation())
        new = new_turn()
        accepted = await store.accept(new)
        first = ending(new, accepted)
        before = await store.end(first)
        assert await store.end(first) == before
        assert await store.end(ending(new, accepted, status="failed", ending=b"another")) == before
        assert (await store.turn("ann", "t1")).ending == b"the ending"
        assert (await store.usage("ann", None, None)).input_tokens == 1

    async def test_only_the_turns_own_epoch_may_end_it(self, store: Store) -> None:
        """Law 9: what a former owner still writes is refused."""
        await store.create_conversation(conversation())
        new = new_turn()
        accepted = await store.accept(new)
        assert await missing(store.end(ending(new, accepted, epoch=NOW - 1))) == "turn"
        assert await missing(store.end(ending(replace(new, turn="unknown"), accepted))) == "turn"
        assert await missing(store.end(ending(replace(new, user="bob"), accepted))) == "turn"
        assert (await store.turn("ann", "t1")).ending is None

    async def test_the_head_follows_each_ending(self, store: Store) -> None:
        """Each stored ending moves the head; the next turn's parent is the head by default."""
        await store.create_conversation(conversation())
        await run(store, new_turn("first"))
        second = await store.accept(new_turn("second"))
        assert second.input is not None
        assert second.input.parent == "first.answer"
        await run(store, new_turn("third"))
        assert (await store.conversation("ann", "c1")).head == "third.answer"

    async def test_after_a_clear_an_older_turn_does_not_move_the_head(self, store: Store) -> None:
        """A turn that ran when the context was emptied keeps its answer, and later turns start from
        nothing."""
        await store.create_conversation(conversation())
        old = new_turn("old")
        accepted = await store.accept(old)
        cleared = await store.clear_conversation("ann", "c1", NOW)
        assert cleared.head is None
        await store.end(ending(old, accepted))
        assert (await store.conversation("ann", "c1")).head is None
        later = await store.accept(new_turn("later"))
        assert later.input is not None
        assert later.input.parent is None
        await store.end(ending(new_turn("later"), later))
        assert (await store.conversation("ann", "c1")).head == "later.answer"
        assert len((await store.messages("ann", "c1", 50, None))[0]) == 4

    async def test_an_ending_in_a_deleted_conversation_is_kept_with_the_turn(self, store: Store) -> None:
        """A conversation that is gone gets no message back; the turn still ends, and counts."""
        await store.create_conversation(conversation())
        new = new_turn()
        accepted = await store.accept(new)
        await store.delete_conversation("ann", "c1")
        assert await store.end(ending(new, accepted)) is None
        turn = await store.turn("ann", "t1")
        assert (turn.status, turn.conversation) == ("completed", None)
        assert await missing(store.message("ann", "t1.answer")) == "message"
        assert (await store.usage("ann", None, None)).output_tokens == 2

    async def test_a_stateless_turn_is_in_no_history(self, store: Store) -> None:
        """Its answer is kept with the turn; there is no conversation and no message."""
        new = new_turn(stateless=True, conversation=None, input=None)
        accepted = await store.accept(new)
        assert (accepted.conversation, accepted.input, accepted.turn.conversation) == (None, None, None)
        assert accepted.turn.parent is None
        assert await store.end(ending(new, accepted)) is None
        assert (await store.turn("ann", "t1")).stateless_message == b"t1.answer"
        assert await missing(store.message("ann", "t1.answer")) == "message"
        assert (await store.conversations("ann", 10, None, None)) == ([], False)
        assert (await store.usage("ann", None, None)).output_tokens == 2

    async def test_unfinished_turns_are_found_in_their_order(self, store: Store) -> None:
        """Law 9: what has no ending is listed, with its user, oldest first; until it ends."""
        await store.create_conversation(conversation())
        await store.create_conversation(conversation("c2", "bob"))
        await store.accept(new_turn("one"))
        two = new_turn("two", "bob", conversation="c2")
        accepted = await store.accept(two)
        await store.accept(new_turn("three", stateless=True, conversation=None, input=None))
        found = await store.unfinished()
        assert [(one.user, one.turn.turn) for one in found] == [
            ("ann", "one"),
            ("bob", "two"),
            ("ann", "three"),
        ]
        await store.end(ending(two, accepted))
        assert [one.turn.turn for one in await store.unfinished()] == ["one", "three"]

    # --- reading ---

    async def test_a_branch_is_the_way_from_the_root(self, store: Store) -> None:
        """The messages from the root to one of them, in order, without those of other branches."""
        await store.create_conversation(conversation())
        await run(store, new_turn("a"))
        await run(store, new_turn("b"))
        await run(store, new_turn("side", parent="a.answer"))
        branch = await store.branch("ann", "c1", "b.answer")
        assert [one.id for one in branch] == ["a.question", "a.answer", "b.question", "b.answer"]
        side = await store.branch("ann", "c1", "side.question")
        assert [one.id for one in side] == ["a.question", "a.answer", "side.question"]
        assert await store.branch("ann", "c1", None) == []
        assert await missing(store.branch("ann", "c1", "unknown")) == "parent"

    async def test_a_long_branch_is_whole(self, store: Store) -> None:
        """Depth has no bound of its own."""
        await store.create_conversation(conversation())
        for n in range(120):
            await run(store, new_turn(f"t{n}"))
        branch = await store.branch("ann", "c1", "t119.answer")
        assert [one.id for one in branch] == [f"t{n}.{kind}" for n in range(120) for kind in ("question", "answer")]

    async def test_messages_come_in_pages_the_last_first(self, store: Store) -> None:
        """Oldest first within a page; `before` is the first message of the page that was read last."""
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

    async def test_a_page_begins_at_a_message_of_the_conversation(self, store: Store) -> None:
        """Law 12: `before` must be a message of that conversation."""
        await store.create_conversation(conversation())
        await store.create_conversation(conversation("c2"))
        await run(store, new_turn("other", conversation="c2"))
        for before in ("unknown", "other.question"):
            assert await missing(store.messages("ann", "c1", 10, before)) == "before"

    async def test_conversations_are_listed_last_changed_first(self, store: Store) -> None:
        """In the order of their last change, the newer one first where that is the same; in pages."""
        for n in range(5):
            await store.create_conversation(conversation(f"c{n}", at=NOW + n // 2))
        await store.create_conversation(conversation("theirs", "bob"))
        await store.update_conversation("ann", "c1", Change(title="x"), NOW + 10)
        wanted = ["c1", "c4", "c3", "c2", "c0"]
        read: list[str] = []
        before = None
        for more in (True, True, False):
            page, has_more = await store.conversations("ann", 2, before, None)
            assert has_more is more
            read += [one.id for one in page]
            before = read[-1]
        assert read == wanted
        assert await store.conversations("ann", 2, before, None) == ([], False)
        assert await missing(store.conversations("ann", 2, "theirs", None)) == "before"
        assert await missing(store.conversations("ann", 2, "unknown", None)) == "before"

    async def test_conversations_are_found_by_their_title(self, store: Store) -> None:
        """A query is a part of the title, in any case, and no pattern."""
        for name, title in (("a", "Trains in May"), ("b", "100% sure_thing"), ("c", "Rain"), ("d", "")):
            await store.create_conversation(conversation(name, title=title))

        async def found(query: str | None) -> set[str]:
            return {one.id for one in (await store.conversations("ann", 10, None, query))[0]}

        assert await found("RAIN") == {"a", "c"}
        assert await found("%") == {"b"}
        assert await found("e_t") == {"b"}
        assert await found("'") == set()
        assert await found("") == await found(None) == {"a", "b", "c", "d"}

    # --- changing ---

    async def test_an_update_changes_what_is_given(self, store: Store) -> None:
        """What is None stays; the revision grows and the conversation moves up."""
        await store.create_conversation(conversation(title="T", system="S", model="M"))
        await run(store, new_turn())
        before = await store.conversation("ann", "c1")
        same = await store.update_conversation("ann", "c1", Change(), NOW + HOUR)
        assert same == replace(before, revision=before.revision + 1, updated_ms=NOW + HOUR)
        change = Change(title="new", system="sys", model="mod", metadata=b'{"a":1}', head="t1.question")
        changed = await store.update_conversation("ann", "c1", change, NOW)
        assert (changed.title, changed.system, changed.model) == ("new", "sys", "mod")
        assert (changed.metadata, changed.head) == (b'{"a":1}', "t1.question")
        assert changed.updated_ms == NOW + HOUR
        assert changed.revision == same.revision + 1
        assert await store.conversation("ann", "c1") == changed

    async def test_the_head_must_be_a_message_of_the_conversation(self, store: Store) -> None:
        """Law 12: another conversation's message can't be a head, and nothing else of that change is kept."""
        await store.create_conversation(conversation())
        await store.create_conversation(conversation("c2"))
        await run(store, new_turn("other", conversation="c2"))
        before = await store.conversation("ann", "c1")
        for head in ("unknown", "other.answer"):
            assert await missing(store.update_conversation("ann", "c1", Change(title="x", head=head), NOW)) == "head"
        assert await store.conversation("ann", "c1") == before

    async def test_a_deleted_conversation_takes_its_messages_along(self, store: Store) -> None:
        """Nothing of it is found any more; the others stay, and so does what it cost."""
        await store.create_conversation(conversation())
        await store.create_conversation(conversation("c2"))
        await run(store, new_turn("gone"))
        await run(store, new_turn("kept", conversation="c2"))
        await store.put_feedback("ann", "gone.answer", "up", None, NOW)
        await store.delete_conversation("ann", "c1")
        assert await missing(store.conversation("ann", "c1")) == "conversation"
        assert await missing(store.messages("ann", "c1", 10, None)) == "conversation"
        assert await missing(store.message("ann", "gone.answer")) == "message"
        assert await missing(store.delete_conversation("ann", "c1")) == "conversation"
        assert (await store.message("ann", "kept.answer")).id == "kept.answer"
        assert (await store.usage("ann", None, None)).input_tokens == 2

    async def test_a_second_rating_replaces_the_first(self, store: Store) -> None:
        """Feedback is kept per message, for messages that are there."""
        await store.create_conversation(conversation())
        await run(store, new_turn())
        await store.put_feedback("ann", "t1.answer", "up", None, NOW)
        await store.put_feedback("ann", "t1.answer", "2", "Too long.", NOW + 1)
        assert await missing(store.put_feedback("ann", "unknown", "up", None, NOW)) == "message"

    async def test_usage_is_summed(self, store: Store) -> None:
        """Over all of a user's ended turns, over one conversation's, and since a time."""
        await store.create_conversation(conversation())
        await store.create_conversation(conversation("c2"))
        assert await store.usage("ann", None, None) == Counters()
        await run(store, new_turn("a"), now_ms=NOW)
        await run(store, new_turn("b"), now_ms=NOW + HOUR, usage=Counters(10, 20))
        await run(
            store,
            new_turn("c", conversation="c2"),
            now_ms=NOW + 2 * HOUR,
            usage=Counters(100, 200, cost_nano=7),
        )
        await store.accept(new_turn("running"))
        assert await store.usage("ann", None, None) == Counters(111, 222, 3, 4, 5, 13)
        assert await store.usage("ann", "c1", None) == Counters(11, 22, 3, 4, 5, 6)
        assert await store.usage("ann", None, NOW + HOUR) == Counters(110, 220, cost_nano=7)
        assert await store.usage("ann", "c1", NOW + HOUR) == Counters(10, 20)
        assert await store.usage("bob", None, None) == Counters()
        assert (await store.conversation("ann", "c1")).usage == Counters(11, 22, 3, 4, 5, 6)

    # --- ownership ---

    @pytest.mark.parametrize("request_name", READS_AND_WRITES)
    async def test_strangers_see_nothing(self, store: Store, request_name: str) -> None:
        """Law 12: what belongs to another user answers exactly as what doesn't exist, and nothing is
        changed."""
        await store.create_conversation(conversation())
        await run(store, new_turn())
        ask, what = READS_AND_WRITES[request_name]
        before = await store.conversation("ann", "c1")
        assert await missing(ask(store, "bob")) == what
        assert await store.conversation("ann", "c1") == before
        await ask(store, "ann")

    # --- closing ---

    async def test_a_closed_store_says_so(self, store: Store) -> None:
        """After the close a call is a `StoreError`; closing again is harmless."""
        await store.create_conversation(conversation())
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.conversation("ann", "c1")
        await store.close()
