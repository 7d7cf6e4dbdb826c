"""The rows of the catalog: each is sound, and says no more than is known."""

from collections import Counter
from decimal import Decimal

import pydantic
import pytest
from genai_prices import data_snapshot

from providers.catalog.catalog import Catalog
from providers.catalog.schema import ModelRow, ProviderRow, shipped_rows
from providers.route import FEATURES, Quirks
from tests.answers import every_key

ROWS = shipped_rows()
PROVIDERS = {
    *("openai", "azure", "anthropic", "kimi", "glm", "gemini", "ernie", "hunyuan", "deepseek", "qwen", "mistral"),
    *("xai", "openrouter", "groq", "ollama", "vllm", "lmstudio", "bedrock", "vertex", "foundry"),
}
ON_THIS_MACHINE = {"demo", "ollama", "vllm", "lmstudio"}


def test_all_are_there() -> None:
    """Every provider that people use has its row."""
    assert set(ROWS.providers) >= PROVIDERS


def test_model_rows_are_sound() -> None:
    """Every row's provider exists, its quirks are quirks, and its id leads to itself and to nothing else."""
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
    """A row's quirks are quirks; it says how to reach the provider and where its key comes from."""
    Quirks.model_validate(row.quirks)
    if name == "demo":
        return
    assert row.keys, "a variable for the key"
    assert row.base_url_variables, "a variable for the address"
    assert row.base_url.startswith(("https://", "{")) or name in ON_THIS_MACHINE or row.package
    assert row.key_optional == (name in ON_THIS_MACHINE or name == "vertex")
    assert set(row.required) <= set(row.options)
    assert not row.variant_of or row.variant_of in ROWS.providers


def test_no_name_means_two_providers() -> None:
    """Neither a provider's other names nor its variables for addresses are another's."""
    names = Counter(name for own, row in ROWS.providers.items() for name in (own, *row.also))
    addresses = Counter(variable for row in ROWS.providers.values() for variable in row.base_url_variables)
    assert max(names.values()) == 1
    assert max(addresses.values()) == 1


def test_prices_are_where_no_list_has_them() -> None:
    """A provider is in the list of prices or its rows may have their own; a row never contradicts the list."""
    listed = {provider.id for provider in data_snapshot.get_snapshot().providers}
    for row in ROWS.providers.values():
        assert not row.price_list or row.price_list in listed
    for model in ROWS.models:
        assert model.price is None or not ROWS.providers[model.provider].price_list


def test_prices_are_decimal() -> None:
    """Money is no float: as it is written, so it is shown."""
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
        {"colour": "red"},
    ],
    ids=str,
)
def test_a_wrong_row_is_refused(change: dict[str, object]) -> None:
    """What a row may not say is an error, and never a silence."""
    with pytest.raises(pydantic.ValidationError):
        ModelRow.model_validate({"id": "m", "name": "M", "provider": "p", "features": ["chat"]} | change)
