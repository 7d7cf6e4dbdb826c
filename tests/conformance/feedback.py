"""Ratings of messages, and the list of all users' ratings."""

from __future__ import annotations

from typing import Any

import msgspec

from store.api import Store
from store.records import FeedbackFilter, FeedbackRecord
from tests.conformance.base import Conformance
from tests.stored import NOW, conversation, missing, new_turn, run


class Feedback(Conformance):
    """Messages are rated, and the ratings are listed."""

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
