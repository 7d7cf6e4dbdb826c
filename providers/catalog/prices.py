"""What an answer costs, in US dollars: by the operator's price, the provider's own word, a list of prices, our catalog.

Pure, and offline: the list of prices is the one that `genai-prices` brings along.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import structlog

from providers.base import Usage
from providers.openai.token_counts import COST_MAX
from providers.route import Price, Route

log = structlog.stdlib.get_logger("turnwire.provider")

MILLION: Final = 1_000_000


def load() -> None:
    """Import the list: a third of a second, that had better not be the loop's."""
    from genai_prices.data_snapshot import get_snapshot

    get_snapshot()


def cost_usd(route: Route, usage: Usage, reported: Decimal | None = None) -> Decimal | None:
    """The cost of so many tokens. `reported`: what the provider says that they cost.

    None where no price is known, or where it comes to what no request costs.
    """
    cost = _cost_usd(route, usage, reported)
    if cost is not None and cost >= COST_MAX:
        log.warning(
            "an answer can't cost so much: look at the model's price, or at who counts its tokens", model=route.id
        )
        return None
    return cost


def _cost_usd(route: Route, usage: Usage, reported: Decimal | None) -> Decimal | None:
    if route.own_price is not None:
        return _by(route.own_price, usage)
    if reported is not None:
        return reported
    listed = _by_list(route, usage) if route.price_list else None
    if listed is None and route.price is not None:
        return _by(route.price, usage)
    return listed


def per_million(route: Route) -> Price | None:
    """What a million tokens of this model cost, as long as a request is small. Imports the list of prices."""
    if route.own_price is not None:
        return route.own_price
    thousands = (Usage(1000, 0), Usage(0, 1000), Usage(1000, 0, cache_read_tokens=1000))
    fresh, output, cached = (cost_usd(route, usage) for usage in thousands)
    if fresh is None or output is None:
        return None
    return Price(input=_million(fresh), output=_million(output), cached=None if cached is None else _million(cached))


def _million(cost: Decimal) -> Decimal:
    """Of a thousand's cost, without zeros at its end."""
    return Decimal(f"{(cost * 1000).normalize():f}")


def _split(usage: Usage) -> tuple[int, int, int]:
    """Input tokens that are new, read from a cache, and written to one; a provider may count more than there were."""
    read = min(usage.cache_read_tokens or 0, usage.input_tokens)
    written = min(usage.cache_write_tokens or 0, usage.input_tokens - read)
    return usage.input_tokens - read - written, read, written


def _by(price: Price, usage: Usage) -> Decimal:
    fresh, read, written = _split(usage)
    cached = price.input if price.cached is None else price.cached
    cache_write = price.input if price.cache_write is None else price.cache_write
    return (fresh * price.input + read * cached + written * cache_write + usage.output_tokens * price.output) / MILLION


def _by_list(route: Route, usage: Usage) -> Decimal | None:
    # Imported here: most of a process's start would be this.
    from genai_prices import Usage as Counted
    from genai_prices import calc_price

    _, read, written = _split(usage)
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
        log.warning("can't price an answer", model=route.id, error=str(error))
        return None
