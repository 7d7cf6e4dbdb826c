"""Find how many turns a server carries: double the load until the added latency is above the limits, then narrow it down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

FIRST = 10
"""The number of turns of the first load."""
LIMITS_MS = (10, 100)
"""The limits of the added latency, 99th percentile, up to which the turns of a core are counted."""
DELIVERED_MIN = 0.95
"""The part of the tokens that has to be delivered in the period. What is stuck in a server has no latency yet."""
PRECISION = 8
"""The search ends when the next larger load that was measured is at most an eighth above the one that was carried."""

Figures = dict[str, Any]
NOT_BEGUN: Figures = {"tokens_per_cpu_s": 0, "cpu": 0.0, "late_p50_ms": 0.0, "late_p99_ms": 0.0, "delivered": 0.0}
"""The figures of a load whose turns didn't all begin."""


async def capacity(measure: Callable[[int], Awaitable[Figures]], most: int) -> Figures:
    """Return the largest load within each limit, and its tokens per CPU second. `most` is the largest load that is tried.

    `measure` returns the figures of a number of turns. Their `delivered` is the part of the tokens that was delivered. It
    raises `TimeoutError` if not all turns begin.
    """
    loads: dict[int, Figures] = {}

    async def add(turns: int) -> None:
        try:
            loads[turns] = await measure(turns)
        except TimeoutError:
            loads[turns] = NOT_BEGUN

    turns = min(FIRST, most)
    while turns <= most:
        await add(turns)
        if not is_within(loads[turns], LIMITS_MS[-1]):
            break
        turns *= 2
    for limit in LIMITS_MS:
        while (between := _between(loads, limit)) is not None:
            await add(between)
    return {
        **{f"p99 <= {limit} ms": _carried(loads, limit) for limit in LIMITS_MS},
        "loads": {str(turns): loads[turns] for turns in sorted(loads)},
    }


def is_within(figures: Figures, limit: int) -> bool:
    """Return whether the tokens were delivered within the limit."""
    return bool(figures["late_p99_ms"] <= limit and figures["delivered"] >= DELIVERED_MIN)


def _largest(loads: dict[int, Figures], limit: int) -> int:
    """Return the largest load within the limit, or 0."""
    return max((turns for turns, figures in loads.items() if is_within(figures, limit)), default=0)


def _between(loads: dict[int, Figures], limit: int) -> int | None:
    """Return the load to measure next: the middle of the largest one within the limit and of the next larger one."""
    low = _largest(loads, limit)
    high = min((turns for turns in loads if turns > low), default=low)
    return (low + high) // 2 if high - low > max(1, low // PRECISION) else None


def _carried(loads: dict[int, Figures], limit: int) -> Figures:
    turns = _largest(loads, limit)
    return {"turns": turns, "tokens_per_cpu_s": loads[turns]["tokens_per_cpu_s"] if turns else 0}
