"""Ratings of messages in Redis, and their index by time."""

from __future__ import annotations

from store.records import FeedbackFilter, FeedbackRecord
from store.redis.client import RedisPart
from store.redis.keys import FEEDBACK_KEY, decode_message_ref, encode_message_ref, encode_text, user_prefix
from store.redis.records import feedback_record, pack, parse_reply

FEEDBACK_PER_SLICE = 200
"""How many entries of the index of feedback are read at once."""
FEEDBACK_SWEPT = 3
"""How many random entries of the index each new rating checks, to remove those whose message is gone.

So most entries have a message, even if nobody lists the feedback.
"""


class RedisFeedback(RedisPart):
    """The feedback of a `HistoryStore` in Redis."""

    async def put_feedback(
        self, user: str, message: str, rating: str, comment: str | None, now_ms: int, model: str | None = None
    ) -> None:
        """See `HistoryStore`. Also remove from the index some entries whose message is gone."""
        new = pack({"rating": rating, "comment": comment, "model": model, "rated_ms": now_ms})
        reply, members = await self._change_history(
            user,
            [
                ("put_feedback", user_prefix(user), (encode_text(message), new)),
                ("index_feedback", FEEDBACK_KEY, (now_ms, encode_message_ref(user, message), FEEDBACK_SWEPT)),
            ],
            durable=True,
        )
        await self._remove_ratings((await self._read_feedback(members))[1])
        parse_reply(reply)

    async def list_feedback(
        self, selected: FeedbackFilter, limit: int, before: tuple[int, str] | None
    ) -> tuple[list[FeedbackRecord], bool]:
        """See `HistoryStore`. Read the index in slices, and remove the entries found there whose message is gone."""
        since = "-inf" if selected.since_ms is None else selected.since_ms
        latest: str | int = "+inf" if selected.until_ms is None else f"({selected.until_ms}"
        last: tuple[int, bytes] | None = None
        if before is not None and (selected.until_ms is None or before[0] < selected.until_ms):
            latest, last = before[0], (before[0], encode_message_ref("", before[1]))
        found: list[FeedbackRecord] = []
        gone: list[bytes] = []
        skipped = 0
        is_end = False
        while len(found) <= limit and not is_end:
            page = ("LIMIT", skipped, FEEDBACK_PER_SLICE)
            flat = await self._client.command("ZREVRANGEBYSCORE", FEEDBACK_KEY, latest, since, "WITHSCORES", *page)
            entries = [(int(float(at_ms)), member) for member, at_ms in zip(flat[::2], flat[1::2], strict=True)]
            records, without = await self._read_feedback(
                [entry[1] for entry in entries if last is None or entry < last]
            )
            found += filter(selected.selects, records)
            gone += without
            is_end = len(entries) < FEEDBACK_PER_SLICE
            if not is_end:
                # The next slice begins with the ms of the last entry. If this slice began with the same ms, the next one skips
                # all entries of this one; otherwise `last` leaves out those that are read again.
                skipped = skipped + len(entries) if entries[-1][0] == latest else 0
                latest = entries[-1][0]
                last = entries[-1] if last is None else min(last, entries[-1])
        await self._remove_ratings(gone)
        return found[:limit], len(found) > limit

    async def _read_feedback(self, members: list[bytes]) -> tuple[list[FeedbackRecord], list[bytes]]:
        """Return the feedback that `members` of the index name, and those members that have none any more."""
        refs = [decode_message_ref(member) for member in members]
        replies = await self._client.scripts(
            [("feedback", user_prefix(user), (encode_text(message),)) for user, message in refs]
        )
        records = [feedback_record(*ref, reply) for ref, reply in zip(refs, replies, strict=True) if reply]
        return records, [member for member, reply in zip(members, replies, strict=True) if not reply]

    async def _remove_ratings(self, members: list[bytes]) -> None:
        if members:
            await self._client.command("ZREM", FEEDBACK_KEY, *members)
