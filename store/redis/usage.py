"""The usage of turns in Redis: sums, and sums per day."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from store.records import DAY_MS, Counters, DayUsage
from store.redis.client import RedisPart
from store.redis.keys import user_prefix
from store.redis.records import counters, parse_reply

TURNS_PER_SLICE = 1000
_decode_usage = msgspec.msgpack.Decoder(list[Any]).decode


class RedisUsage(RedisPart):
    """The usage of a `HistoryStore` in Redis."""

    async def usage_days(self, user: str) -> list[DayUsage]:
        """See `HistoryStore`. Read the turns in slices."""
        days: dict[int, tuple[int, list[int | None]]] = {}
        start, is_end = 0, False
        while not is_end:
            flat = await self._client.command(
                "ZRANGE", user_prefix(user) + b"usage", start, start + TURNS_PER_SLICE - 1, "WITHSCORES"
            )
            start += TURNS_PER_SLICE
            is_end = len(flat) < 2 * TURNS_PER_SLICE
            for member, ended_ms in zip(flat[::2], flat[1::2], strict=True):
                day_ms = int(float(ended_ms)) // DAY_MS * DAY_MS
                turns, sums = days.get(day_ms, (0, [None] * len(Counters.__struct_fields__)))
                values = _decode_usage(member)[3 : 3 + len(sums)]
                days[day_ms] = turns + 1, [_add(total, value) for total, value in zip(sums, values, strict=True)]
        return [
            DayUsage(day_ms=day_ms, turns=turns, usage=_sums(sums)) for day_ms, (turns, sums) in sorted(days.items())
        ]

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """See `HistoryStore`.

        The sums are exact for the last 31 days, or for as long as the history is kept if that is longer.
        """
        since = "" if since_ms is None else since_ms
        (sums,) = parse_reply(await self._script("usage", user, conversation or "", since))
        return counters(sums)


def _add(total: int | None, value: int | float | Literal[False]) -> int | None:
    """Return the sum of `total` and `value`. None and False add nothing."""
    return total if value is False else (total or 0) + int(value)


def _sums(totals: list[int | None]) -> Counters:
    """Return totals in the order of `Counters`; None is the field's default."""
    named = zip(Counters.__struct_fields__, totals, strict=True)
    return Counters(**{name: total for name, total in named if total is not None})
