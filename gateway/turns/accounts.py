"""The usage and the cost of the requests of one turn: completed by estimates, priced, and added up."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from msgspec import Struct, structs

from gateway.protocol.views import NANOS_PER_USD
from gateway.turns.token_estimate import estimate_usage
from providers.base import ChatRequest, Part, Usage
from providers.catalog.costs import cost_usd
from providers.route import Route


class Accounts(Struct):
    """The sums over all requests of a turn before the latest one.

    `earlier_parts` are the answer's parts that these requests produced. `cost_nano` is in billionths of a dollar, and None
    if no cost is known.
    """

    usage: Usage | None = None
    cost_nano: int | None = None
    earlier_parts: Sequence[Part] = ()

    def add(self, usage: Usage | None, cost_nano: int | None) -> tuple[Usage | None, int | None]:
        """Return the sums with this usage and cost of one more request."""
        return _sum(self.usage, usage), _sum_known(self.cost_nano, cost_nano)

    def latest_parts(self, parts: list[Part]) -> list[Part]:
        """Return what the latest request added to the answer: new parts, and new text of earlier parts.

        `parts` is the whole answer.
        """
        if not self.earlier_parts:
            return parts
        latest: list[Part] = []
        for number, part in enumerate(parts):
            is_new = number >= len(self.earlier_parts)
            before = None if is_new else getattr(self.earlier_parts[number], "text", None)
            text = getattr(part, "text", None)
            if is_new:
                latest.append(part)
            elif before is not None and text is not None and len(text) > len(before):
                latest.append(structs.replace(part, text=text[len(before) :]))
        return latest


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


def complete_usage(chat_request: ChatRequest, reported: Usage | None, parts: list[Part], *, is_whole: bool) -> Usage:
    """Return the usage of a request: `reported`, with estimates of the counts that the provider didn't report.

    `parts` are what the request produced, and `is_whole` is whether the provider sent a finish reason. If it didn't, it
    may not have reported its counts to the end.
    """
    if reported and reported.input_tokens and reported.output_tokens and is_whole and not reported.estimated:
        return reported
    estimate = estimate_usage(chat_request, parts)
    if reported is None:
        return estimate
    input_tokens = reported.input_tokens or estimate.input_tokens
    output_tokens = reported.output_tokens
    if reported.estimated:
        output_tokens = max(output_tokens, estimate.output_tokens)
    elif output_tokens == 0 or (not is_whole and estimate.output_tokens > 2 * output_tokens):
        # Anthropic reports a count at the start and one at the end. An answer that was cut off has only the first.
        output_tokens = estimate.output_tokens
    estimated = (input_tokens, output_tokens) != (reported.input_tokens, reported.output_tokens)
    return structs.replace(
        reported, input_tokens=input_tokens, output_tokens=output_tokens, estimated=reported.estimated or estimated
    )


def cost_nano(route: Route, usage: Usage | None, reported: Decimal | None = None) -> int | None:
    """Return the cost of `usage` in billionths of a dollar, or None if there is no usage or no known price.

    `reported` is the cost that the provider itself reports, in US dollars.
    """
    cost = None if usage is None else cost_usd(route, usage, reported)
    return None if cost is None else int((cost * NANOS_PER_USD).to_integral_value(ROUND_HALF_UP))
