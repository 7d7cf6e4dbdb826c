"""The catalog: which route a model id resolves to, and which models are listed."""

import pytest
from structlog.testing import capture_logs

from providers.base import ProviderError
from providers.catalog.catalog import Catalog
from providers.catalog.schema import shipped_rows
from tests.upstream_providers import KEY, every_key

ALL_KEYS = every_key()


def test_default_model_needs_no_key() -> None:
    """With an empty environment, the default model is the demo, which needs no key."""
    catalog = Catalog({})
    assert catalog.default_model == "demo"
    assert catalog.resolve("demo").dialect == "demo"


def test_usable_models_are_first() -> None:
    """The usable models precede the others, and both groups are in the order of the rows. A usable variant's models are
    among the usable ones."""
    catalog = Catalog({"GLM_API_KEY": KEY, "KIMI_CN_API_KEY": KEY})
    models = catalog.models()
    order = [row.id for row in shipped_rows().models]
    usable = [model.id for model in models if model.available]
    assert [model.available for model in models] == sorted((model.available for model in models), reverse=True)
    assert usable[0] == "demo"
    assert "kimi-cn/kimi-k3" in usable
    for group in (usable, [model.id for model in models if not model.available]):
        listed = [order.index(model) for model in group if model in order]
        assert listed == sorted(listed)


def test_models() -> None:
    """Every model lists its provider, features and context window, and whether its key is set."""
    models = {model.id: model for model in Catalog({"KIMI_API_KEY": KEY}).models()}
    assert len(models) == len(shipped_rows().models)
    assert models["demo"].available
    assert models["demo"].key is None
    kimi = models["kimi-k3"]
    assert (kimi.type, kimi.key, kimi.available) == ("kimi", "MOONSHOT_API_KEY", True)
    assert kimi.context_window == 1_048_576
    assert not models["gpt-6-sol"].available
    assert models["glm-5.3"].name == "GLM-5.3"
    assert all({"chat", "streaming"} <= set(model.features) for model in models.values())


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
        ("moonshot/kimi-k3", "kimi", "kimi-k3"),
        ("kimi-cn/kimi-k3", "kimi-cn", "kimi-k3"),
        ("zhipu/glm-5.3", "glm-cn", "glm-5.3"),
        ("groq/openai/gpt-oss-120b", "groq", "openai/gpt-oss-120b"),
        ("groq/openai/gpt-oss-20b", "groq", "openai/gpt-oss-20b"),
        ("azure/my-deployment", "azure", "my-deployment"),
        ("google/gemini-3.8-flash", "gemini", "gemini-3.8-flash"),
    ],
)
def test_resolve(model_id: str, provider: str, model: str) -> None:
    """A model id is resolved by its row, by a provider prefix, or by a pattern."""
    route = Catalog(ALL_KEYS).resolve(model_id)
    assert (route.id, route.provider, route.model) == (model_id, provider, model)


def test_model_quirks_override_provider_quirks() -> None:
    """A model's quirks override its provider's. Another provider's model with the same name has nothing of the model's
    row."""
    catalog = Catalog(ALL_KEYS)
    assert catalog.resolve("kimi-k3").quirks.reasoning == "effort"
    assert catalog.resolve("kimi-k3").quirks.reasoning_back
    assert catalog.resolve("moonshot-v1-8k").quirks.reasoning == "fixed"
    assert catalog.resolve("openai/gpt-6-sol").context_window == 1_050_000
    assert catalog.resolve("ollama/gpt-6-sol").context_window is None
    assert catalog.resolve("claude-haiku-4-5").quirks.reasoning == "budget"
    assert catalog.resolve("claude-haiku-4-5").quirks.drops == {"temperature", "top_p"}


@pytest.mark.parametrize(
    ("model_id", "environment", "think_tags"),
    [
        ("vllm/any", {}, True),
        ("vllm/any", {"VLLM_BASE_URL": "https://gpu.example/v1"}, True),
        ("ollama/any", {}, True),
        ("lmstudio/any", {}, True),
        ("groq/qwen/qwen3-32b", {}, True),
        ("openai/any", {}, False),
        ("openai/any", {"OPENAI_BASE_URL": "https://eu.api.openai.com/v1"}, False),
        ("openai/any", {"OPENAI_BASE_URL": "http://localhost:1234/v1"}, True),
        ("openai/any", {"OPENAI_BASE_URL": "https://notapi.openai.com.example/v1"}, True),
        ("qwen/any", {"DASHSCOPE_BASE_URL": "https://dashscope.aliyuncs.com/compatible-mode/v1"}, False),
        ("qwen-cn/any", {}, False),
        ("azure/any", {}, False),
        ("anthropic/any", {}, False),
        ("anthropic/any", {"ANTHROPIC_BASE_URL": "http://localhost:1"}, True),
        ("gpt-6-sol", {}, False),
        ("gpt-6-sol", {"OPENAI_BASE_URL": "http://localhost:1"}, True),
    ],
)
def test_think_tags(model_id: str, environment: dict[str, str], think_tags: bool) -> None:
    """In Chat Completions and Messages, hosts outside the shipped catalog and those on one's own machine may send think tags."""
    assert Catalog(ALL_KEYS | environment).resolve(model_id).quirks.think_tags == think_tags


@pytest.mark.parametrize(
    ("model", "is_opened"),
    [
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", True),
        ("Qwen/QwQ-32B", True),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507", True),
        ("allenai/Olmo-3-7B-Think", True),
        ("Qwen/Qwen3-8B", False),
        ("meta-llama/Llama-3.1-8B-Instruct", False),
    ],
)
def test_models_whose_prompt_opens_the_reasoning(model: str, is_opened: bool) -> None:
    """Some families of models always begin with reasoning, without a tag."""
    assert Catalog(ALL_KEYS).resolve(f"vllm/{model}").quirks.think_opened == is_opened


@pytest.mark.parametrize("model_id", ["llama3", "", "openai/", "/gpt-6", "nobody/gpt-6-sol", "x" * 1000])
def test_unknown_model(model_id: str) -> None:
    """The error for an unknown id points to `models.list`, and it doesn't repeat a long id."""
    with pytest.raises(ProviderError, match=r"models\.list") as caught:
        Catalog(ALL_KEYS).resolve(model_id)
    assert caught.value.code == "model_not_found"
    assert len(caught.value.message) < 300


def test_similar_models_are_suggested() -> None:
    """The error for a misspelled id suggests similar models, the closest first."""
    with pytest.raises(ProviderError, match=r"Did you mean kimi-k3 or [\w.-]+( or [\w.-]+)?\?"):
        Catalog(ALL_KEYS).resolve("kmi-k3")


@pytest.mark.parametrize(
    ("model_id", "names"),
    [("gpt-6-sol", "OPENAI_API_KEY"), ("glm-5.3", "ZAI_API_KEY or ZHIPUAI_API_KEY or GLM_API_KEY")],
)
@pytest.mark.parametrize("environment", [{}, {"OPENAI_API_KEY": "  ", "GLM_API_KEY": ""}])
def test_missing_key(model_id: str, names: str, environment: dict[str, str]) -> None:
    """The error for a model without a key names the variables to set and where. A blank variable is unset."""
    with pytest.raises(ProviderError) as caught:
        Catalog(environment).resolve(model_id)
    assert caught.value.code == "upstream_auth"
    assert caught.value.message == (
        f"The model {model_id} requires {names}. Set it where the gateway runs, then restart the gateway."
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
        ("kimi-cn", {"KIMI_BASE_URL": "http://x"}, "https://api.moonshot.cn/v1"),
        ("azure", {"AZURE_OPENAI_ENDPOINT": "https://me.example/"}, "https://me.example/openai/v1"),
        ("azure", {}, ""),
        ("foundry", {"ANTHROPIC_FOUNDRY_RESOURCE": "me"}, "https://me.services.ai.azure.com/anthropic/"),
    ],
)
def test_base_urls(provider: str, environment: dict[str, str], url: str) -> None:
    """A provider's base URL is the value of its variable, or else that of its row. A variant has variables of its own."""
    assert Catalog(environment).endpoint(provider).base_url == url


@pytest.mark.parametrize(
    ("provider", "environment", "needs"),
    [
        ("kimi", {}, "MOONSHOT_API_KEY or KIMI_API_KEY"),
        ("azure", {}, "AZURE_OPENAI_API_KEY and (AZURE_OPENAI_ENDPOINT or AZURE_OPENAI_BASE_URL)"),
        ("azure", {"AZURE_OPENAI_API_KEY": "k"}, "AZURE_OPENAI_ENDPOINT or AZURE_OPENAI_BASE_URL"),
        ("azure", {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_BASE_URL": "http://x"}, ""),
        ("bedrock", {"AWS_REGION": "r"}, "AWS_BEARER_TOKEN_BEDROCK or AWS_ACCESS_KEY_ID or AWS_PROFILE"),
        ("bedrock", {"AWS_PROFILE": "me"}, "AWS_REGION or AWS_DEFAULT_REGION"),
        ("bedrock", {"AWS_PROFILE": "me", "AWS_REGION": "r"}, ""),
        ("vertex", {"CLOUD_ML_REGION": "us"}, "ANTHROPIC_VERTEX_PROJECT_ID or GOOGLE_CLOUD_PROJECT"),
        ("vertex", {"CLOUD_ML_REGION": "us", "GOOGLE_CLOUD_PROJECT": "p"}, ""),
        ("vllm", {}, ""),
    ],
)
def test_missing_variables(provider: str, environment: dict[str, str], needs: str) -> None:
    """Every missing variable is named with its alternatives."""
    assert Catalog(environment).missing(provider) == needs


def test_an_extra_that_is_not_installed_is_named() -> None:
    """A cloud provider's client needs an extra of the package. If it isn't installed, the error names the extra."""
    rows = shipped_rows()
    bedrock = rows.providers["bedrock"].model_copy(update={"package": "no_such_module.at_all"})
    catalog = Catalog(ALL_KEYS, rows.model_copy(update={"providers": {"bedrock": bedrock}, "models": ()}))
    with pytest.raises(ProviderError, match=r"requires the extra turnwire\[bedrock\]\. Install it"):
        catalog.resolve("bedrock/some-model")


def test_regional_variant() -> None:
    """A variant of a provider has its own key and the provider's models. They are listed under the variant's name if its
    key is set."""
    catalog = Catalog({"KIMI_CN_API_KEY": KEY})
    route = catalog.resolve("kimi-cn/kimi-k3")
    assert (route.context_window, route.quirks.reasoning, route.title) == (1_048_576, "effort", "Kimi (China)")
    assert catalog.endpoint("kimi-cn").api_key == KEY
    listed = {model.id: model for model in catalog.models()}
    assert listed["kimi-cn/kimi-k3"].available
    assert not listed["kimi-k3"].available
    assert not any(model.startswith(("glm-cn/", "qwen-cn/")) for model in listed)
    assert Catalog(ALL_KEYS).resolve("glm-cn/glm-5.3").price_list == "zhipuai"


def test_aliases_and_hidden_models() -> None:
    """An alias resolves to its model and is listed with it. A hidden model isn't listed, but its id is resolved."""
    rows = shipped_rows()
    models = tuple(row.model_copy(update={"hidden": row.id == "gpt-6-sol"}) for row in rows.models)
    catalog = Catalog(ALL_KEYS, rows.model_copy(update={"models": models, "aliases": {"fast": "kimi-k3"}}))
    assert catalog.resolve("fast").id == "kimi-k3"
    listed = {model.id: model for model in catalog.models()}
    assert listed["kimi-k3"].aliases == ("fast",)
    assert "gpt-6-sol" not in listed
    assert catalog.resolve("gpt-6-sol").provider == "openai"
    with pytest.raises(ProviderError, match=r"Did you mean fast\?"):
        catalog.resolve("fasst")


def test_prices_and_fallbacks_are_on_the_route() -> None:
    """A route of the shipped rows has the catalog's price or the price list, and no operator's price and no fallbacks."""
    catalog = Catalog(ALL_KEYS)
    assert catalog.resolve("qwen3.8-max").price is not None
    assert catalog.resolve("qwen-cn/qwen3.8-max").price is None, "the price differs in another region"
    assert catalog.resolve("qwen3.8-max").own_price is None
    assert catalog.resolve("kimi-k3").price_list == "moonshotai"
    assert catalog.resolve("kimi-k3").fallbacks == ()


def test_pasted_key_is_stripped() -> None:
    """White space around a pasted key is stripped, and the first variable that is set is used."""
    environment = {"KIMI_API_KEY": KEY + "\n", "MOONSHOT_API_KEY": ""}
    assert Catalog(environment).endpoint("kimi").api_key == KEY


def test_removed_quotes_are_logged() -> None:
    """A warning about removed quotes, or a removed `Bearer`, names the variable once, and not its value. White space is
    removed without a warning."""
    with capture_logs() as logged:
        Catalog({"KIMI_API_KEY": f'"{KEY}"', "OPENAI_API_KEY": f"Bearer {KEY}", "GLM_API_KEY": f" {KEY}\n"})
    assert [entry["variable"] for entry in logged if entry["log_level"] == "warning"] == [
        "KIMI_API_KEY",
        "OPENAI_API_KEY",
    ]
    assert KEY not in repr(logged)


def test_several_keys() -> None:
    """A variable may hold several keys, separated by commas. Empty entries are ignored."""
    assert Catalog({"KIMI_API_KEY": " a, b ,,c\n"}).endpoint("kimi").api_keys == ("a", "b", "c")
    assert Catalog({"KIMI_API_KEY": " , "}).endpoint("kimi").api_keys == ()


@pytest.mark.parametrize(
    ("model", "style"),
    [
        ("openai/gpt-4o", "fixed"),
        ("gpt-3.5-turbo", "fixed"),
        ("openai/gpt-5-chat-latest", "fixed"),
        ("azure/gpt-4.1", "fixed"),
        ("claude-3-5-haiku-latest", "fixed"),
        ("bedrock/anthropic.claude-3-haiku", "fixed"),
        ("groq/llama-3.3-70b", "fixed"),
        ("openai/o3", "effort"),
        ("openai/gpt-7", "effort"),
        ("gpt-6-sol", "effort"),
        ("claude-opus-6", "adaptive"),
        ("groq/openai/gpt-oss-20b", "effort"),
    ],
)
def test_reasoning_style_of_a_model(model: str, style: str) -> None:
    """A model without reasoning has the style `fixed`: no effort is sent, because the provider would reject it."""
    route = Catalog(ALL_KEYS).resolve(model)
    assert (route.quirks.reasoning, route.thinks) == (style, style != "fixed")
