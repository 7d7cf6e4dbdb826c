"""The catalog, and the clients that it leads to."""

import subprocess
import sys
from typing import Any

import pytest

from providers.base import ChatMessage, ChatRequest, ImagePart, ProviderError, Tool
from providers.catalog import Catalog, Providers, rows
from providers.route import Quirks
from tests.answers import KEY, question

EVERY_KEY = {
    "OPENAI_API_KEY": KEY,
    "ANTHROPIC_API_KEY": KEY,
    "MOONSHOT_API_KEY": KEY,
    "ZAI_API_KEY": KEY,
}


def test_default_model_needs_no_key() -> None:
    """Without any environment there is a default model that works."""
    catalog = Catalog({})
    assert catalog.default_model == "demo"
    assert catalog.resolve("demo").dialect == "demo"


def test_models() -> None:
    """Every model says what it is, what it can, and whether its key is set."""
    models = {model.id: model for model in Catalog({"KIMI_API_KEY": KEY}).models()}
    assert len(models) == len(rows().models)
    assert models["demo"].available
    assert models["demo"].key is None
    kimi = models["kimi-k3"]
    assert (kimi.type, kimi.key, kimi.available) == ("kimi", "MOONSHOT_API_KEY", True)
    assert kimi.context_window == 1_048_576
    assert not models["gpt-6-sol"].available
    assert models["glm-5.3"].name == "GLM-5.3"
    assert all({"chat", "streaming"} <= set(model.features) for model in models.values())


def test_rows_are_sound() -> None:
    """Every row's provider exists, its quirks are quirks, and its id leads to itself."""
    catalog = Catalog(EVERY_KEY)
    assert catalog.default_model in {row.id for row in rows().models}
    assert len({row.id for row in rows().models}) == len(rows().models)
    for row in rows().models:
        route = catalog.resolve(row.id)
        assert (route.model, route.provider) == (row.id, row.provider)
        assert (route.max_output or 0) <= (route.context_window or 2**31)
    for provider in rows().providers.values():
        Quirks.model_validate(provider.quirks)


@pytest.mark.parametrize(
    ("model_id", "provider", "model"),
    [
        ("gpt-6-sol", "openai", "gpt-6-sol"),
        ("openai/gpt-6-sol", "openai", "gpt-6-sol"),
        ("gpt-4.1-mini", "openai", "gpt-4.1-mini"),
        ("o3-pro", "openai", "o3-pro"),
        ("openai/my-finetune", "openai", "my-finetune"),
        ("claude-opus-9", "anthropic", "claude-opus-9"),
        ("anthropic/claude-haiku-4-5", "anthropic", "claude-haiku-4-5"),
        ("moonshot-v1-8k", "kimi", "moonshot-v1-8k"),
        ("kimi/kimi-k3", "kimi", "kimi-k3"),
        ("glm-4.5-air", "glm", "glm-4.5-air"),
        ("ollama/hf.co/bartowski/Llama:Q4", "ollama", "hf.co/bartowski/Llama:Q4"),
        ("ollama/gpt-6-sol", "ollama", "gpt-6-sol"),
        ("demo/anything", "demo", "anything"),
    ],
)
def test_resolve(model_id: str, provider: str, model: str) -> None:
    """An id leads to a provider by its row, by the provider's name before it, or by a pattern."""
    route = Catalog(EVERY_KEY).resolve(model_id)
    assert (route.id, route.provider, route.model) == (model_id, provider, model)


def test_own_quirks_win() -> None:
    """A model's quirks win over its provider's; another provider's model of that name has none of them."""
    catalog = Catalog(EVERY_KEY)
    assert catalog.resolve("kimi-k3").quirks.reasoning == "effort"
    assert catalog.resolve("kimi-k3").quirks.reasoning_back
    assert catalog.resolve("moonshot-v1-8k").quirks.reasoning == "fixed"
    assert catalog.resolve("openai/gpt-6-sol").context_window == 1_050_000
    assert catalog.resolve("ollama/gpt-6-sol").context_window is None
    assert catalog.resolve("claude-haiku-4-5").quirks.reasoning == "budget"
    assert catalog.resolve("claude-haiku-4-5").quirks.drops == {"temperature", "top_p"}


@pytest.mark.parametrize("model_id", ["llama3", "", "openai/", "/gpt-6", "nobody/gpt-6-sol", "x" * 1000])
def test_unknown_model(model_id: str) -> None:
    """An id that leads nowhere says how to list those that do, without repeating a novel."""
    with pytest.raises(ProviderError, match=r"models\.list") as caught:
        Catalog(EVERY_KEY).resolve(model_id)
    assert caught.value.code == "model_not_found"
    assert len(caught.value.message) < 300


def test_near_miss() -> None:
    """A slip of the finger is met with the model that was meant."""
    with pytest.raises(ProviderError, match=r"Did you mean kimi-k3\?"):
        Catalog(EVERY_KEY).resolve("kmi-k3")


@pytest.mark.parametrize(
    ("model_id", "names"),
    [("gpt-6-sol", "OPENAI_API_KEY"), ("glm-5.3", "ZAI_API_KEY or ZHIPUAI_API_KEY or GLM_API_KEY")],
)
@pytest.mark.parametrize("environment", [{}, {"OPENAI_API_KEY": "  ", "GLM_API_KEY": ""}])
def test_missing_key(model_id: str, names: str, environment: dict[str, str]) -> None:
    """A model without its key says which variable to set, and where; a blank one is none."""
    with pytest.raises(ProviderError) as caught:
        Catalog(environment).resolve(model_id)
    assert caught.value.code == "upstream_auth"
    assert caught.value.message == (
        f"The model {model_id} needs {names}: set it where the gateway runs and restart it."
    )


@pytest.mark.parametrize(
    ("provider", "environment", "url"),
    [
        ("openai", {}, "https://api.openai.com/v1"),
        ("openai", {"OPENAI_BASE_URL": "http://x/v1"}, "http://x/v1"),
        ("openai", {"OPENAI_BASE_URL": " "}, "https://api.openai.com/v1"),
        ("anthropic", {"ANTHROPIC_BASE_URL": "http://x"}, "http://x"),
        ("kimi", {"MOONSHOT_BASE_URL": "http://x"}, "http://x"),
        ("kimi", {"MOONSHOT_BASE_URL": "http://x", "KIMI_BASE_URL": "http://y"}, "http://y"),
        ("glm", {"ZAI_BASE_URL": "http://x"}, "http://x"),
        ("ollama", {"OLLAMA_BASE_URL": "http://x/v1\n"}, "http://x/v1"),
    ],
)
def test_base_urls(provider: str, environment: dict[str, str], url: str) -> None:
    """Each provider's address can be changed where the gateway runs."""
    assert Catalog(environment).endpoint(provider).base_url == url


def test_pasted_key() -> None:
    """A line's end that was pasted with a key isn't of the key; the first variable that is set wins."""
    environment = {"KIMI_API_KEY": KEY + "\n", "MOONSHOT_API_KEY": ""}
    assert Catalog(environment).endpoint("kimi").api_key == KEY


def test_several_keys() -> None:
    """A variable may hold several keys with commas between them; a comma too many adds none."""
    assert Catalog({"KIMI_API_KEY": " a, b ,,c\n"}).endpoint("kimi").api_keys == ("a", "b", "c")
    assert Catalog({"KIMI_API_KEY": " , "}).endpoint("kimi").api_keys == ()


async def test_keys_are_never_shown() -> None:
    """However catalog, routes and clients are printed, no key is."""
    catalog = Catalog(EVERY_KEY)
    providers = Providers(catalog)
    route = catalog.resolve("gpt-6-sol")
    things: list[Any] = [catalog, catalog.models(), catalog.endpoint("openai"), route]
    things += [providers, providers.of(route), providers._dialects]
    assert KEY not in "".join(f"{thing!r}{thing!s}" for thing in things)
    await providers.aclose()


async def test_one_client_for_each_provider() -> None:
    """All routes of a provider share one client, made when it is first asked, and closed with the process."""
    catalog = Catalog(EVERY_KEY)
    providers = Providers(catalog)
    assert not providers._dialects
    for model in ("gpt-6-sol", "gpt-6-luna", "claude-haiku-4-5", "kimi-k3", "demo"):
        await providers.of(catalog.resolve(model)).aclose()
    assert sorted(providers._dialects) == ["anthropic", "demo", "kimi", "openai"]
    await providers.aclose()
    assert not providers._dialects


async def test_refused_before_anything_is_sent() -> None:
    """What a model can't take is refused by the provider itself."""
    catalog = Catalog({"ZAI_API_KEY": KEY, "GLM_BASE_URL": "http://127.0.0.1:9"})
    providers = Providers(catalog)
    image = ChatRequest(model="m", messages=(ChatMessage("user", (ImagePart("image/png", data="A"),)),))
    with pytest.raises(ProviderError, match=r"glm-5\.3 can't see"):
        providers.of(catalog.resolve("glm-5.3")).stream(image)
    await providers.aclose()


async def test_asks_the_demo() -> None:
    """From an id to the words, in three lines."""
    catalog = Catalog({})
    provider = Providers(catalog).of(catalog.resolve(catalog.default_model))
    batches = [batch async for batch in provider.stream(question(demo={"rate": 0}, tools=(Tool("f"),)))]
    assert len(batches) > 100


def test_sdks_are_imported_when_they_are_needed() -> None:
    """Catalog and demo cost no SDK; `load` imports that of its route, and no other."""
    code = (
        "import asyncio, sys; from providers.catalog import Catalog, Providers; c = Catalog({'OPENAI_API_KEY': 'k'});"
        "p = Providers(c); p.of(c.resolve('demo'));"
        "assert not {'openai', 'anthropic', 'aiohttp', 'httpx2'} & set(sys.modules);"
        "asyncio.run(p.load(c.resolve('openai/m'))); assert 'openai' in sys.modules; assert 'anthropic' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_sdk_is_imported_beside_the_loop() -> None:
    """While a provider's SDK is imported for the first time, the loop goes on."""
    code = """
import asyncio
from providers.catalog import Catalog, Providers

async def main():
    catalog = Catalog({"OPENAI_API_KEY": "k"})
    loading = asyncio.get_running_loop().create_task(Providers(catalog).load(catalog.resolve("openai/m")))
    ticks = 0
    while not loading.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert ticks > 10, ticks

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
