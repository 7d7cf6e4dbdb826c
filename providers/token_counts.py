"""The token counts and costs that answers in OpenAI's two dialects report, by any provider's names. Without I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from providers.base import Usage, UsageReported
from providers.quirks import Quirks

COUNT_MAX: Final = 1_000_000_000
"""Token counts from here on, or below 0, are ignored. No request has so many tokens, and the stores can sum up smaller
counts without rounding."""
COST_MAX: Final = 1_000_000
"""A cost in US dollars from here on is ignored. No single request costs so much."""

Counts = dict[str, int]
"""Map from one of our names (`input`, `output`, `total`, `reasoning`, `cached`, `written`) to a reported count."""

_DIGITS: Final = re.compile(r"\s{0,9}(\d{1,12})(?:\.0{0,9})?\s{0,9}")
_INPUT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS: Final = ("completion_tokens_details", "output_tokens_details")
_NAMES: Final[tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]] = (
    ("input", (), ("prompt_tokens", "input_tokens")),
    ("output", (), ("completion_tokens", "output_tokens")),
    ("total", (), ("total_tokens",)),
    ("reasoning", _OUTPUT_DETAILS, ("reasoning_tokens",)),
    ("cached", _INPUT_DETAILS, ("cached_tokens", "cache_read_tokens", "cached_read_tokens")),
    ("cached", (), ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")),
    ("written", _INPUT_DETAILS, ("cache_write_tokens", "cache_creation_tokens", "cached_write_tokens")),
    ("written", (), ("cache_creation_input_tokens",)),
)
"""Our name of a count, the objects that it may be in (none: the report itself), and the providers' names for it."""


class UsageReports:
    """The usage of one answer, merged from all reports in its stream.

    A count never shrinks: a report that lacks it, or gives 0, null or a smaller number, leaves it as it is.
    """

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._counts: Counts = {}
        self._cost: Decimal | None = None
        self._is_new = False

    def add(self, usage: object) -> None:
        """Merge one report: a `usage` object in any provider's names. Ignore anything else."""
        if not isinstance(usage, dict) or not usage:
            return
        self._is_new = True
        merge_counts(self._counts, read_counts(usage))
        cost = chat_cost(usage, self._quirks)
        if cost is not None:
            self._cost = cost if self._cost is None else max(cost, self._cost)

    def take(self) -> UsageReported | None:
        """Return the usage so far. Return None if nothing was added since it was last taken."""
        if not self._is_new:
            return None
        self._is_new = False
        return UsageReported(usage_of(self._counts, self._quirks), self._cost)


def chat_cost(usage: dict[str, Any], quirks: Quirks) -> Decimal | None:
    """Return the cost in US dollars that the provider reports in `usage`. None if it reports none or an implausible one."""
    cost = usage.get("cost") if quirks.usage_has_cost else None
    if isinstance(cost, bool) or not isinstance(cost, int | float):
        return None
    return Decimal(repr(cost)) if 0 <= cost < COST_MAX else None


def read_counts(usage: dict[str, Any]) -> Counts:
    """Return the counts of one report, a `usage` object. If a count has several names, return the largest one."""
    counts: Counts = {}
    for ours, objects, names in _NAMES:
        sources: Iterable[object] = [usage.get(name) for name in objects] if objects else (usage,)
        for source in sources:
            if isinstance(source, dict):
                for name in names:
                    if (count := read_count(source.get(name))) is not None:
                        counts[ours] = max(count, counts.get(ours, 0))
    return counts


def merge_counts(counts: Counts, reported: Counts) -> None:
    """Merge the counts of a report into `counts`. No count shrinks."""
    for name, count in reported.items():
        counts[name] = max(count, counts.get(name, 0))


def usage_of(counts: Counts, quirks: Quirks) -> Usage:
    """Return `counts` as a `Usage`. A missing input or output is computed from the total, if there is one."""
    input_tokens, output, total = counts.get("input", 0), counts.get("output", 0), counts.get("total", 0)
    reasoning, cached, written = counts.get("reasoning"), counts.get("cached"), counts.get("written")
    extra = (cached or 0) + (written or 0)
    if quirks.usage_excludes_reasoning:
        total_output = max(output, total - input_tokens) if total else output + (reasoning or 0)
        reasoning, output = (total_output - output or None) if reasoning is None else reasoning, total_output
    elif extra and total == input_tokens + output + extra:
        # Some hosts pass on the counts of Anthropic, whose input excludes the cached tokens.
        input_tokens += extra
    if not output:
        output = max(0, total - input_tokens) if input_tokens else 0
    elif not input_tokens:
        input_tokens = max(0, total - output)
    cached = None if cached is None else min(cached, input_tokens)
    written = None if written is None else min(written, input_tokens - (cached or 0))
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output,
        reasoning_tokens=reasoning,
        cache_read_tokens=cached,
        cache_write_tokens=written,
    )


def read_count(value: object) -> int | None:
    """Return a plausible number of tokens, also if it is given as text. Return None for anything else."""
    if isinstance(value, str):
        found = _DIGITS.fullmatch(value) if len(value) < 40 else None
        value = int(found[1]) if found else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < COUNT_MAX else None
