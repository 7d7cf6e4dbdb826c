"""The search in Redis, which has no index: the user's messages are read and compared in slices, in other threads."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from store.records import Found
from store.redis.client import RedisPart
from store.redis.keys import user_prefix
from store.redis.records import conversation_record, parse_reply
from store.search_text import SearchQuery, message_text, parse_query, snippet

ITEMS_PER_SLICE = 500
BYTES_PER_SLICE = 256 * 1024


class _Hit(NamedTuple):
    """A conversation that was found by its title, by a message or by both."""

    conversation: bytes
    message: str | None = None
    snippet: str | None = None


class RedisSearch(RedisPart):
    """The search of `HistoryStore` in Redis."""

    async def search(self, user: str, query: str, limit: int, before: str | None) -> tuple[list[Found], bool]:
        """See `HistoryStore`.

        A conversation that changes meanwhile moves to the front of the list. If it wasn't read yet, it isn't found.
        """
        folded, parsed = query.casefold(), parse_query(query)
        hits: dict[bytes, _Hit] = {}
        place: tuple[bytes | str, bytes | str] = ("", "")
        start = before or ""
        is_end = False
        while not is_end:
            slice_ = await self._script("search", user, start, *place, ITEMS_PER_SLICE, BYTES_PER_SLICE)
            conversations, score, number = parse_reply(slice_)
            found = await asyncio.to_thread(_find, conversations, folded, parsed)
            for hit in found:
                known = hits.get(hit.conversation)
                if known is None or known.message is None:
                    hits[hit.conversation] = hit
            last = hits.get(conversations[-1][0]) if conversations else None
            if last is not None and last.message is not None:
                number = None  # its older messages needn't be read
            # The conversation at the end of the slice may have more messages, and then its hit isn't complete.
            complete = len(hits) - (number is not None and last is not None)
            start, place = "", (score or "", number or "")
            is_end = score is None or complete > limit
        return await self._read_found(user, list(hits.values())[: limit + 1], limit)

    async def _read_found(self, user: str, hits: list[_Hit], limit: int) -> tuple[list[Found], bool]:
        if not hits:
            return [], False
        prefix = user_prefix(user) + b"conversation:"
        records = await self._client.commands([("HGETALL", prefix + hit.conversation) for hit in hits])
        found = [
            Found(record=conversation_record(user, record), message=hit.message, snippet=hit.snippet)
            for hit, record in zip(hits, records, strict=True)
            if record  # it may have been deleted meanwhile
        ]
        return found[:limit], len(hits) > limit


def _find(conversations: list[Any], folded: str, query: SearchQuery) -> list[_Hit]:
    """Return the hits in a slice, in its order."""
    hits = []
    for conversation, title, _, messages in conversations:
        hit = _Hit(conversation) if folded in title.decode().casefold() else None
        for message, body in messages:
            text = message_text(body)
            if query.matches_text(text):
                hit = _Hit(conversation, message.decode(), snippet(text, query))
                break
        if hit is not None:
            hits.append(hit)
    return hits
