"""The token counts and costs that answers in OpenAI's two dialects report, by any provider's names. Without I/O."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, TypeGuard

from providers.base import Usage
from providers.route import Quirks

COUNT_MAX: Final = 1_000_000_000
"""Token counts from here on, or below 0, are ignored. No request has so many tokens, and the stores can sum up smaller
counts without rounding."""
COST_MAX: Final = 1_000_000
"""The cost in US dollars that no single request reaches. Such costs are ignored."""


def chat_usage(usage: dict[str, Any], quirks: Quirks) -> Usage:
    """Return the token counts of a Chat Completions `usage` object, whichever names the provider uses for them."""
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    reasoning = _count(completion, "reasoning_tokens")
    names = ((prompt, "cached_tokens"), (usage, "cached_tokens"), (usage, "prompt_cache_hit_tokens"))
    cached = next((count for counts, name in names if (count := _count(counts, name)) is not None), None)
    input_tokens, output = _count(usage, "prompt_tokens") or 0, _count(usage, "completion_tokens") or 0
    if quirks.usage_excludes_reasoning:
        total = _count(usage, "total_tokens")
        total_output = output + (reasoning or 0) if total is None else max(output, total - input_tokens)
        reasoning, output = (total_output - output or None) if reasoning is None else reasoning, total_output
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output,
        reasoning_tokens=reasoning,
        cache_read_tokens=cached,
        cache_write_tokens=_count(prompt, "cache_write_tokens"),
    )


def chat_cost(usage: dict[str, Any], quirks: Quirks) -> Decimal | None:
    """Return the cost in US dollars that the provider reports in `usage`. None if it reports none or an implausible one."""
    cost = usage.get("cost") if quirks.usage_has_cost else None
    return Decimal(repr(cost)) if isinstance(cost, int | float) and 0 <= cost < COST_MAX else None


def responses_usage(usage: dict[str, Any], quirks: Quirks) -> Usage:
    """Return the token counts of a Responses `usage` object."""
    inputs, outputs = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    reasoning, output = _count(outputs, "reasoning_tokens"), _count(usage, "output_tokens") or 0
    return Usage(
        input_tokens=_count(usage, "input_tokens") or 0,
        output_tokens=output + (reasoning or 0) if quirks.usage_excludes_reasoning else output,
        reasoning_tokens=reasoning,
        cache_read_tokens=_count(inputs, "cached_tokens"),
        cache_write_tokens=_count(inputs, "cache_write_tokens"),
    )


def is_count(value: object) -> TypeGuard[int | float]:
    """Return whether `value` is a plausible number of tokens."""
    return isinstance(value, int | float) and 0 <= value < COUNT_MAX


def _count(counts: object, name: str) -> int | None:
    value = counts.get(name) if isinstance(counts, dict) else None
    return int(value) if is_count(value) else None
