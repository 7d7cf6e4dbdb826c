"""Run the example of docs/providers.md, and check its tables against the catalog."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

from providers.catalog.catalog import Catalog
from providers.catalog.operator_file import ModelEntry, operator_rows
from providers.catalog.schema import CatalogRows, ProviderRow, shipped_rows
from providers.route import FEATURES, Route
from tests.client import client
from tests.gateway_process import clean_environment, gateway_process
from tests.provider_table import table
from tests.upstream import Upstream, chat
from tests.upstream_providers import every_key

PAGE = (Path(__file__).parents[1] / "docs" / "providers.md").read_text(encoding="utf-8")
KEY = "acme-key-0123456789"
TOP_LEVEL_KEYS = {"default_model", "[aliases]", "[providers.NAME]", "[[models]]"}
UNDOCUMENTED = {
    "credentials",
    "options",
    "required",
    "package",
    "extra",
    "also",
    "price_list",
    "key_optional",
    "title",
}
"""Fields of a provider that the page leaves out, because an operator's file rarely needs them."""


def block(language: str) -> str:
    """Return the page's first code block in that language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def section(title: str) -> str:
    """Return the text under a heading."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """Return the names in the first cell of every table row."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


async def turnwire(environment: dict[str, str], *arguments: str) -> str:
    """Run a command of the page and return its output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *arguments),
        env=clean_environment(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=Path(__file__).parents[1],
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


@pytest.mark.e2e
async def test_the_example_adds_a_provider(tmp_path: Path) -> None:
    """The page's file and commands work unchanged except for the URL and the key, and a turn completes."""
    async with Upstream() as upstream:
        upstream.play(chat("Hello", usage={"prompt_tokens": 1000, "completion_tokens": 100}))
        written = block("toml").replace("http://127.0.0.1:9000/v1", upstream.openai_url)
        assert upstream.openai_url in written
        file = tmp_path / "models.toml"
        file.write_text(written, encoding="utf-8")
        exports = re.search(r"^export (TURNWIRE_MODELS)=models.toml (\w+)=…$", block("sh"), re.MULTILINE)
        assert exports is not None
        environment = {exports[1]: str(file), exports[2]: KEY}
        commands = re.findall(r"^turnwire (.*)$", block("sh"), re.MULTILINE)
        assert commands == ["models", "check acme/large", "serve"]

        assert re.search(
            r"acme/large \(default\) +acme +64k +0.40 / 1.20 +tools +ready",
            await turnwire(environment, "models"),
        )
        assert "acme/large: answered by Acme as large." in await turnwire(environment, "check", "acme/large")
        async with gateway_process(tmp_path, environment) as gateway, client(gateway.ws_url) as c:
            listed = {model["id"]: model for model in (await c.request("models.list"))["models"]}["acme/large"]
            assert (listed["context_window"], listed["available"]) == (64_000, True)
            assert listed["price"] == {"input": "0.40", "cached": "0.10", "output": "1.20", "currency": "USD"}
            for turn, model in (("by default", None), ("by name", "acme/any-other-model")):
                fields = {} if model is None else {"model": model}
                await c.request("turn.start", turn=turn.replace(" ", "-"), input="Hi", **fields)
                ended = await c.ending(turn.replace(" ", "-"))
                assert ended["type"] == "turn.completed", ended
                assert c.turns[turn.replace(" ", "-")].text() == "Hello"
            assert [received.body["model"] for received in upstream.requests] == ["large", "large", "any-other-model"]
            assert {received.headers["authorization"] for received in upstream.requests} == {f"Bearer {KEY}"}
            # 1000 tokens at 0.40 and 100 at 1.20 a million.
            assert c.turns["by-default"].ended is not None
            assert float(c.turns["by-default"].ended["cost"]["amount"]) == 0.00052


def test_the_providers_are_those_of_the_catalog() -> None:
    """The rows equal the output of `python -m tests.provider_table`."""
    rows = [line for line in section("Built-in providers").splitlines() if line.startswith("| `")]
    assert rows == table()


def test_the_fields_are_those_of_the_operators_file() -> None:
    """Every field in the table exists. The table lacks only fields that are rarely needed, or that the text describes.

    It lists every feature except `prefill`.
    """
    fields = set(ProviderRow.model_fields) | set(ModelEntry.model_fields) | set(CatalogRows.model_fields)
    fields = fields - {"continues"} | {"continue"}  # the file's name is a reserved word
    named = set(first_cells(section("File format")))
    assert named - TOP_LEVEL_KEYS <= fields
    described_in_text = {
        "providers",
        "models",
        "aliases",
        "id",
        "env_key",
        "thinking",
        "own_price",
        "base_url_variables",
    }
    assert fields - named - UNDOCUMENTED <= described_in_text
    features = re.search(r"^\| `features` \|(.*?);", section("File format"), re.MULTILINE)
    assert features is not None
    assert set(re.findall(r"`([\w-]+)`", features[1])) == FEATURES - {"prefill"}


def test_the_json_example_is_valid(tmp_path: Path) -> None:
    """The catalog accepts the page's JSON example."""
    found = re.search(r"`(\{\"models\".*?\})`\.", PAGE, re.DOTALL)
    assert found is not None
    file = tmp_path / "models.json"
    file.write_text(found[1], encoding="utf-8")
    (model,) = json.loads(found[1])["models"]
    assert Catalog(every_key(), operator_rows(file)).resolve(model["id"]).provider == model["type"]


def test_the_fields_of_the_toml_example_are_documented() -> None:
    """Every field of the example is in the table, except `title` and `id`."""
    example = tomllib.loads(block("toml"))
    named = set(first_cells(section("File format"))) | {"title", "id"}
    assert {*example["providers"]["acme"], *example["models"][0]} <= named


def test_the_dropped_parameters_are_those_of_the_catalog() -> None:
    """The catalog drops and renames the parameters that the page's section on parameters says.

    The test doesn't read that section: it repeats what the section says.
    """
    catalog = Catalog(every_key())
    listed = [catalog.resolve(row.id) for row in shipped_rows().models if row.provider != "demo"]
    routes = listed + [
        catalog.resolve(f"{name}/any") for name, row in shipped_rows().providers.items() if name != "demo"
    ]

    def where(test: object) -> set[str]:
        assert callable(test)
        return {route.id for route in routes if test(route)}

    def messages(route: Route) -> bool:
        return route.dialect.startswith("anthropic")

    kimi = {route.id for route in listed if route.provider == "kimi"}
    assert where(lambda route: "temperature" in route.quirks.drops) == where(messages) | kimi | {"gpt-6.1-sol"}
    assert where(lambda route: "temperature" in route.quirks.drops_thinking) == {
        route.id
        for route in listed
        if route.provider == "openai" and "thinking" in route.features and route.id != "gpt-6.1-sol"
    }
    assert where(lambda route: route.quirks.max_tokens_field == "max_completion_tokens") == kimi | where(
        lambda route: route.provider in ("openai", "azure", "groq")
    )
    assert where(lambda route: "stop" in route.quirks.drops) == where(lambda route: route.provider == "xai")
    assert where(lambda route: route.quirks.renames) == where(lambda route: route.provider == "mistral")
