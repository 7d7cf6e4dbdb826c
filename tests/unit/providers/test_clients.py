"""The provider clients of one process."""

import subprocess
import sys
from typing import Any

import pytest

from providers.base import ChatMessage, ChatRequest, ImagePart, ProviderError, Tool
from providers.catalog.catalog import Catalog
from providers.clients import ProviderClients
from tests.answers import Batches
from tests.provider_requests import chat_request
from tests.upstream_providers import KEY, every_key

ALL_KEYS = every_key()


async def test_string_forms_contain_no_keys() -> None:
    """No string form of the catalog, its routes or its clients contains a key."""
    catalog = Catalog(ALL_KEYS)
    providers = ProviderClients(catalog)
    route = catalog.resolve("gpt-6-sol")
    things: list[Any] = [catalog, catalog.models(), catalog.endpoint("openai"), route]
    things += [providers, providers.client(route), providers._dialects]
    assert KEY not in "".join(f"{thing!r}{thing!s}" for thing in things)
    await providers.aclose()


async def test_one_client_for_each_provider_and_key() -> None:
    """The routes of a provider and dialect share one client per key, made on first use and closed by `aclose`."""
    catalog = Catalog({**ALL_KEYS, "MOONSHOT_API_KEY": "one,two"})
    providers = ProviderClients(catalog)
    assert not providers._dialects
    for model in ("gpt-6-sol", "gpt-6-luna", "openai/other", "claude-haiku-4-5", "kimi-k3", "demo"):
        providers.client(catalog.resolve(model))
    for key in ("one", "two"):
        providers.client(catalog.resolve("kimi-k3"), key)
    assert sorted(providers._dialects) == [
        ("anthropic", "anthropic", 0),
        ("demo", "demo", 0),
        ("kimi", "openai_chat", 0),
        ("kimi", "openai_chat", 1),
        ("openai", "openai_chat", 0),
        ("openai", "openai_responses", 0),
    ]
    await providers.aclose()
    assert not providers._dialects


async def test_refused_before_anything_is_sent() -> None:
    """A request that the model doesn't support is rejected by the client before anything is sent."""
    catalog = Catalog({"ZAI_API_KEY": KEY, "GLM_BASE_URL": "http://127.0.0.1:9"})
    providers = ProviderClients(catalog)
    image = ChatRequest(model="m", messages=(ChatMessage("user", (ImagePart("image/png", data="A"),)),))
    with pytest.raises(ProviderError, match=r"glm-5\.3 can't see"):
        await providers.client(catalog.resolve("glm-5.3")).answer(image, Batches())
    await providers.aclose()


async def test_demo_answers() -> None:
    """The default model answers a request without any configuration."""
    catalog = Catalog({})
    provider = ProviderClients(catalog).client(catalog.resolve(catalog.default_model))
    await provider.answer(chat_request(demo={"rate": 0}, tools=(Tool("f"),)), sink := Batches())
    assert len(sink.put_batches) > 100


def test_sdks_are_imported_on_demand() -> None:
    """The catalog and the demo import no SDK. `load` imports the SDK of its route, and no other."""
    code = (
        "import asyncio, sys; from providers.catalog.catalog import Catalog; from providers.clients import ProviderClients;"
        "c = Catalog({'OPENAI_API_KEY': 'k'}); p = ProviderClients(c); p.client(c.resolve('demo'));"
        "assert not {'openai', 'anthropic', 'aiohttp', 'httpx2'} & set(sys.modules);"
        "asyncio.run(p.load(c.resolve('openai/m'))); assert 'openai' in sys.modules; assert 'anthropic' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_preload() -> None:
    """`preload` imports what a first request needs: the SDKs of the default model and of configured keys, no others."""
    code = """
import asyncio, sys
from providers.base import ChatMessage, ChatRequest, ProviderError, TextPart
from providers.catalog.catalog import Catalog
from providers.clients import ProviderClients
from tests.answers import Batches

catalog = Catalog({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://127.0.0.1:9"})
assert Catalog({"MOONSHOT_API_KEY": "k"}).dialects("ollama/x") == {"openai_chat": "ollama"}
assert Catalog({}).dialects("no-such-model") == {}
assert catalog.dialects("demo") == {"demo": "demo", "openai_chat": "openai", "openai_responses": "openai"}
providers = ProviderClients(catalog)
providers.preload("demo")
assert "anthropic" not in sys.modules
loaded = set(sys.modules)

async def main():
    for model in ("openai/m", "gpt-6-sol"):
        question = ChatRequest(model=model, messages=(ChatMessage("user", (TextPart("Hi"),)),))
        try:
            await providers.client(catalog.resolve(model)).answer(question, Batches())
        except ProviderError as error:
            assert error.code == "upstream_error", error
    await providers.aclose()

asyncio.run(main())
late = {name for name in set(sys.modules) - loaded if name.startswith("openai")}
assert not late, late
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_sdk_import_does_not_block_the_loop() -> None:
    """The loop keeps running while a provider's SDK is imported for the first time."""
    code = """
import asyncio
from providers.catalog.catalog import Catalog
from providers.clients import ProviderClients
from tests.answers import Batches

async def main():
    catalog = Catalog({"OPENAI_API_KEY": "k"})
    loading = asyncio.get_running_loop().create_task(ProviderClients(catalog).load(catalog.resolve("openai/m")))
    ticks = 0
    while not loading.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert ticks > 10, ticks

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
