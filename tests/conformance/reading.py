"""Reading conversations, messages, feedback and usage."""

from __future__ import annotations

import pytest

from store.api import Store
from store.records import Change
from tests.conformance.base import Conformance
from tests.stored import NOW, conversation, ending, missing, new_turn, run, running


class Reading(Conformance):
    """Reading conversations, messages, feedback and usage."""

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
