"""Tests of the cost of an answer. The expected costs were calculated by hand, and must be met exactly."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import pytest
from msgspec import structs

from providers.base import Usage
from providers.catalog.catalog import Catalog
from providers.catalog.costs import cost_usd, per_million
from providers.price import Price
from providers.route import Route
from tests.upstream_providers import every_key

CATALOG = Catalog(every_key())
OWN = Price(input=Decimal(10), output=Decimal(20))


def model(name: str) -> Route:
    return CATALOG.resolve(name)


@pytest.mark.parametrize(
    ("name", "usage", "cost"),
    [
        # Prices are in dollars per million tokens, so the sums are in millionths of a dollar.
        # 600 at 0.75, 400 cached at 0.075, 200 at 4.50: 450 + 30 + 900.
        ("gpt-5.4-mini", Usage(1000, 200, reasoning_tokens=150, cache_read_tokens=400), "0.00138"),
        # 10 at 1, 100 read at 0.10, 5 written at 1.25, 60 at 5: 10 + 10 + 6.25 + 300.
        ("claude-haiku-4-5", Usage(115, 60, cache_read_tokens=100, cache_write_tokens=5), "0.00032625"),
        # 744 at 0.95, 256 cached at 0.16, 300 at 4: 706.80 + 40.96 + 1200.
        ("kimi-k2.6", Usage(1000, 300, cache_read_tokens=256), "0.00194776"),
        # The catalog has this price, because the price list lacks the model.
        # 1000 at 0.15, 1000 cached at 0.016, 500 at 0.47: 150 + 16 + 235.
        ("qwen3.8-flash", Usage(2000, 500, cache_read_tokens=1000), "0.000401"),
    ],
)
def test_costs_calculated_by_hand(name: str, usage: Usage, cost: str) -> None:
    """Cached tokens are part of the input and reasoning tokens part of the output. Neither is charged twice."""
    assert cost_usd(model(name), usage) == Decimal(cost)


def test_precedence_of_prices() -> None:
    """The operator's price comes first, then the cost that the provider reports, the price list and the catalog's price.

    Without any of these, the cost is None.
    """
    usage = Usage(1_000_000, 100_000)
    listed = model("kimi-k2.6")
    assert cost_usd(listed, usage) == Decimal("1.35")
    assert cost_usd(structs.replace(listed, price=OWN), usage) == Decimal("1.35")
    assert cost_usd(listed, usage, Decimal("0.5")) == Decimal("0.5")
    assert cost_usd(listed, usage, Decimal(0)) == 0
    assert cost_usd(structs.replace(listed, own_price=OWN), usage, Decimal("0.5")) == 12
    unlisted = model("openai/no-such-model")
    assert cost_usd(unlisted, usage) is None
    assert cost_usd(structs.replace(unlisted, price=OWN), usage) == 12
    assert cost_usd(model("ollama/llama"), usage) is None
    assert cost_usd(model("demo"), usage) is None


@pytest.mark.parametrize("name", ["kimi-k2.6", "qwen3.8-flash"])
def test_more_cached_tokens_than_input(name: str) -> None:
    """If a provider reports more cached tokens than input, no more tokens than the input are charged."""
    usage = Usage(100, 0, cache_read_tokens=900, cache_write_tokens=900)
    assert cost_usd(model(name), usage) == cost_usd(model(name), Usage(100, 0, cache_read_tokens=100))


def test_prices_for_cached_tokens() -> None:
    """Cache reads and writes have their own prices, or else the input price."""
    usage = Usage(100, 10, cache_read_tokens=30, cache_write_tokens=20)
    price = Price(input=Decimal(10), output=Decimal(20), cached=Decimal(1), cache_write=Decimal(12))
    assert cost_usd(structs.replace(model("demo"), own_price=price), usage) == Decimal("0.00097")
    assert cost_usd(structs.replace(model("demo"), own_price=OWN), usage) == Decimal("0.0012")


def test_implausible_costs_are_ignored() -> None:
    """The high cost that a mistyped price gives is ignored, so that the stores don't add it up.

    High token counts at a normal price are not ignored.
    """
    usage = Usage(10**9 - 1, 10**9 - 1)
    expensive = Price(input=Decimal(10**12), output=Decimal(10**12))
    assert cost_usd(structs.replace(model("demo"), own_price=expensive), usage) is None
    assert cost_usd(structs.replace(model("demo"), own_price=expensive), Usage(0, 0)) == 0
    assert cost_usd(model("kimi-k2.6"), usage) is not None


def test_price_list_is_loaded_on_demand_and_never_fetched() -> None:
    """A process starts without the price list, and calculating a price opens no connection."""
    code = (
        "import socket, sys; import gateway.app; from providers.catalog import costs;"
        "assert 'genai_prices' not in sys.modules;"
        "socket.socket.connect = socket.getaddrinfo = None;"
        "from providers.base import Usage; from providers.catalog.catalog import Catalog;"
        "route = Catalog({'MOONSHOT_API_KEY': 'k'}).resolve('kimi-k2.6');"
        "assert str(costs.cost_usd(route, Usage(1000000, 0))) == '0.95';"
        "assert 'genai_prices.data' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "price"),
    [
        ("claude-haiku-4-5", {"input": "1", "output": "5", "cached": "0.1"}),
        ("gpt-5.4-mini", {"input": "0.75", "output": "4.5", "cached": "0.075"}),
        ("qwen3.8-flash", {"input": "0.15", "output": "0.47", "cached": "0.016"}),
    ],
)
def test_per_million(name: str, price: dict[str, str]) -> None:
    """The price per million tokens that clients get is a plain decimal, also if it comes from the price list."""
    shown = per_million(model(name))
    assert shown is not None
    assert shown.as_text() == price | {"currency": "USD"}


def test_operator_price_per_million() -> None:
    """The operator's price is returned unchanged. A model without a known price has none."""
    assert per_million(structs.replace(model("kimi-k3"), own_price=OWN)) is OWN
    assert per_million(model("ernie-5.1")) is None
