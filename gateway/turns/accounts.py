"""The usage and the cost of the requests of one turn, added up."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, structs

from providers.base import Part, Usage


class Accounts(Struct):
    """The sums over all requests of a turn before the latest one. `said` holds the parts of the answer that they brought.

    `cost_nano` is in billionths of a dollar, and None if no cost is known.
    """

    usage: Usage | None = None
    cost_nano: int | None = None
    said: Sequence[Part] = ()

    def add(self, usage: Usage | None, cost_nano: int | None) -> tuple[Usage | None, int | None]:
        """Return the sums with this usage and cost of one more request."""
        return _sum(self.usage, usage), _sum_known(self.cost_nano, cost_nano)

    def rest(self, parts: list[Part]) -> list[Part]:
        """Return what the latest request brought: of the answer's `parts`, the new ones, and the new text of the others."""
        if not self.said:
            return parts
        rest: list[Part] = []
        for number, part in enumerate(parts):
            before = getattr(self.said[number], "text", None) if number < len(self.said) else None
            text = getattr(part, "text", None)
            if number >= len(self.said):
                rest.append(part)
            elif before is not None and text is not None and len(text) > len(before):
                rest.append(structs.replace(part, text=text[len(before) :]))
        return rest


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    if one is None or other is None:
        return one or other
    return Usage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        reasoning_tokens=_sum_known(one.reasoning_tokens, other.reasoning_tokens),
        cache_read_tokens=_sum_known(one.cache_read_tokens, other.cache_read_tokens),
        cache_write_tokens=_sum_known(one.cache_write_tokens, other.cache_write_tokens),
        estimated=one.estimated or other.estimated,
    )


def _sum_known(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other
