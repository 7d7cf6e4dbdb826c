"""The cost of an answer in US dollars: by the operator's price, the provider's report, a price list, or our catalog.

The first of these that is known is used. No network is needed, because `genai-prices` ships the price list.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import structlog

from providers.base import Usage
from providers.price import Price
from providers.route import Route
from providers.token_counts import COST_MAX

log = structlog.stdlib.get_logger("turnwire.provider")

MILLION: Final = 1_000_000


def load() -> None:
    """Import the price list. This takes a third of a second, so it shouldn't run in the event loop."""
    # This form imports the package first. Importing the module alone can deadlock with another thread that imports the
    # package.
    from genai_prices import data_snapshot

    data_snapshot.get_snapshot()


def cost_usd(route: Route, usage: Usage, reported: Decimal | None = None) -> Decimal | None:
    """Return the cost of `usage` in US dollars. `reported` is the cost reported by the provider, in US dollars.

    Return None if no price is known, or if the cost is implausibly high (`COST_MAX`).
    """
    cost = _cost_usd(route, usage, reported)
    if cost is not None and cost >= COST_MAX:
        log.warning("implausible cost ignored: check the model's price and the reported usage", model=route.id)
        return None
    return cost


def _cost_usd(route: Route, usage: Usage, reported: Decimal | None) -> Decimal | None:
    if route.own_price is not None:
        return _cost_by_price(route.own_price, usage)
    if reported is not None:
        return reported
    listed = _cost_by_list(route, usage) if route.price_list else None
    if listed is None and route.price is not None:
        return _cost_by_price(route.price, usage)
    return listed


def per_million(route: Route) -> Price | None:
    """Return the price of a million tokens of this model in small requests. None if it isn't known.

    Some models cost more in large requests. This may import the price list.
    """
    if route.own_price is not None:
        return route.own_price
    thousands = (Usage(1000, 0), Usage(0, 1000), Usage(1000, 0, cache_read_tokens=1000))
    fresh, output, cached = (cost_usd(route, usage) for usage in thousands)
    if fresh is None or output is None:
        return None
    return Price(
        input=_for_million(fresh), output=_for_million(output), cached=None if cached is None else _for_million(cached)
    )


def _for_million(cost: Decimal) -> Decimal:
    """Return the cost of a million tokens, given the cost of a thousand, without trailing zeros."""
    return Decimal(f"{(cost * 1000).normalize():f}")


def _split_input(usage: Usage) -> tuple[int, int, int]:
    """Return the input tokens as (new, read from a cache, written to a cache).

    The cached counts are capped at the input tokens, because a provider may report more.
    """
    read = min(usage.cache_read_tokens or 0, usage.input_tokens)
    written = min(usage.cache_write_tokens or 0, usage.input_tokens - read)
    return usage.input_tokens - read - written, read, written


def _cost_by_price(price: Price, usage: Usage) -> Decimal:
    fresh, read, written = _split_input(usage)
    cached = price.input if price.cached is None else price.cached
    cache_write = price.input if price.cache_write is None else price.cache_write
    return (fresh * price.input + read * cached + written * cache_write + usage.output_tokens * price.output) / MILLION


def _cost_by_list(route: Route, usage: Usage) -> Decimal | None:
    # Imported here because it would take most of a process's startup time.
    from genai_prices import Usage as Counted
    from genai_prices import calc_price

    _, read, written = _split_input(usage)
    counted = Counted(
        input_tokens=usage.input_tokens,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=usage.output_tokens,
    )
    try:
        return calc_price(counted, route.model, provider_id=route.price_list).total_price
    except LookupError:
        return None
    except ValueError as error:
        log.warning("cost can't be calculated", model=route.id, error=str(error))
        return None
