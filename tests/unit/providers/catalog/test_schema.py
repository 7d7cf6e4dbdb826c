"""Checks of the catalog's shipped rows, and the rejection of invalid rows."""

from collections import Counter
from decimal import Decimal

import pydantic
import pytest
from genai_prices import Usage as ListedUsage
from genai_prices import calc_price, data_snapshot

from providers.catalog.catalog import Catalog
from providers.catalog.schema import ModelRow, ProviderRow, shipped_rows
from providers.quirks import Quirks
from providers.route import FEATURES
from tests.upstream_providers import every_key

ROWS = shipped_rows()
PROVIDERS = {
    *("openai", "azure", "anthropic", "kimi", "glm", "gemini", "ernie", "hunyuan", "deepseek", "qwen", "mistral"),
    *("xai", "openrouter", "groq", "ollama", "vllm", "lmstudio", "bedrock", "vertex", "foundry"),
}
LOCAL = {"demo", "ollama", "vllm", "lmstudio"}


def test_all_major_providers_have_rows() -> None:
    """Every major provider has a row."""
    assert set(ROWS.providers) >= PROVIDERS


def test_model_rows_are_sound() -> None:
    """Every model's id is unique and resolves to the model and provider of its row. Its quirks are valid, its features are
    known, and its longest answer fits its context window. The default model has a row."""
    catalog = Catalog(every_key())
    assert ROWS.default_model in {row.id for row in ROWS.models}
    assert max(Counter(row.id for row in ROWS.models).values()) == 1
    for row in ROWS.models:
        route = catalog.resolve(row.id)
        assert (route.model, route.provider) == (row.model or row.id, row.provider)
        assert (route.max_output or 0) <= (route.context_window or 2**31)
        assert {"chat", "streaming"} <= set(row.features) <= FEATURES


@pytest.mark.parametrize(("name", "row"), ROWS.providers.items())
def test_provider_rows_are_sound(name: str, row: ProviderRow) -> None:
    """A provider's quirks are valid, and its row has variables for URL and key. The demo needs neither.

    The base URL uses https or begins with a variable, unless the provider is local or needs a package of its own. The key
    is optional for the local providers and for Vertex, and for no other.
    """
    Quirks.model_validate(row.quirks)
    if name == "demo":
        return
    assert row.keys, "a variable for the key"
    assert row.base_url_variables, "a variable for the address"
    assert row.base_url.startswith(("https://", "{")) or name in LOCAL or row.package
    assert row.key_optional == (name in LOCAL or name == "vertex")
    assert set(row.required) <= set(row.options)
    assert not row.variant_of or row.variant_of in ROWS.providers


def test_provider_names_are_unique() -> None:
    """No two providers share a name or a variable for the base URL."""
    names = Counter(name for own, row in ROWS.providers.items() for name in (own, *row.also))
    addresses = Counter(variable for row in ROWS.providers.values() for variable in row.base_url_variables)
    assert max(names.values()) == 1
    assert max(addresses.values()) == 1


def test_own_prices_only_without_a_price_list() -> None:
    """A provider's price list exists, and a model has a price of its own only if that list lacks it."""
    listed = {provider.id for provider in data_snapshot.get_snapshot().providers}
    for row in ROWS.providers.values():
        assert not row.price_list or row.price_list in listed
    for model in ROWS.models:
        price_list = ROWS.providers[model.provider].price_list
        if model.price is not None and price_list:
            assert model.legacy
            with pytest.raises(LookupError):
                calc_price(ListedUsage(input_tokens=1), model.model or model.id, provider_id=price_list)


def test_prices_are_decimal() -> None:
    """Prices are decimals, not floats, and are shown as written."""
    price = next(row.price for row in ROWS.models if row.id == "qwen3.8-flash")
    assert price is not None
    assert price.input == Decimal("0.15")
    assert price.as_text() == {"input": "0.15", "cached": "0.016", "output": "0.47", "currency": "USD"}


@pytest.mark.parametrize(
    "change",
    [
        {"price": {"input": "-1", "output": "1"}},
        {"price": {"input": "NaN", "output": "1"}},
        {"price": {"input": "1"}},
        {"price": {"input": "1", "output": "1", "currency": "CNY"}},
        {"features": ["Flying High"]},
        {"context_window": 0},
        {"color": "red"},
    ],
    ids=str,
)
def test_invalid_rows_are_rejected(change: dict[str, object]) -> None:
    """An invalid row raises an error and isn't ignored."""
    with pytest.raises(pydantic.ValidationError):
        ModelRow.model_validate({"id": "m", "name": "M", "provider": "p", "features": ["chat"]} | change)
