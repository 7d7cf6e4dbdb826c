"""The operator's file: what it adds, overrides, hides and names, and how its errors are reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from providers.base import ChatMessage, ChatRequest, ImagePart, ProviderError
from providers.catalog.catalog import Catalog
from providers.catalog.operator_file import CatalogError, open_catalog, operator_rows
from providers.catalog.schema import shipped_rows
from tests.upstream_providers import KEY, every_key


def catalog(folder: Path, text: str | dict[str, Any], environment: dict[str, str] | None = None) -> Catalog:
    """Return the catalog for a file with this text. A dictionary is written as JSON."""
    path = folder / "models.toml"
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return Catalog(every_key() | (environment or {}), operator_rows(path))


def errors_of(folder: Path, text: str | dict[str, Any]) -> list[str]:
    """Return the errors that are reported for a file, each without the file's name."""
    with pytest.raises(CatalogError) as caught:
        catalog(folder, text)
    lines = str(caught.value).splitlines()
    name = f"{folder / 'models.toml'}: "
    assert all(error.startswith(name) for error in lines)
    return [error.removeprefix(name) for error in lines]


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    """An empty file leaves the shipped rows unchanged."""
    (tmp_path / "models.toml").write_text("")
    assert operator_rows(tmp_path / "models.toml") == shipped_rows()


def test_a_provider_is_added(tmp_path: Path) -> None:
    """A new provider with a base URL, keys, headers and models is resolved by its rows, its prefix and its patterns."""
    operator_catalog = catalog(
        tmp_path,
        """
        [providers.acme]
        base_url = "https://llm.acme.example/v1"
        keys = ["ACME_KEY"]
        headers = { "X-Team" = "{ACME_TEAM}" }
        patterns = ["acme-*"]

        [[models]]
        id = "acme/large"
        provider = "acme"
        context_window = 64000
        price = { input = "0.40", output = "1.20" }
        """,
        {"ACME_KEY": f"{KEY}, second", "ACME_TEAM": "chat"},
    )
    route = operator_catalog.resolve("acme/large")
    assert (route.provider, route.model, route.dialect, route.title) == ("acme", "large", "openai_chat", "acme")
    assert (route.context_window, route.features) == (64_000, ("chat", "streaming", "tools"))
    assert route.own_price is not None
    assert (str(route.own_price.output), route.price) == ("1.20", None)
    assert operator_catalog.resolve("acme/other").model == "other"
    assert operator_catalog.resolve("acme-3").provider == "acme"
    endpoint = operator_catalog.endpoint("acme")
    assert (endpoint.base_url, endpoint.headers) == ("https://llm.acme.example/v1", {"X-Team": "chat"})
    assert endpoint.api_keys == (KEY, "second")
    model = {model.id: model for model in operator_catalog.models()}["acme/large"]
    assert (model.type, model.key, model.available) == ("acme", "ACME_KEY", True)
    assert model.price == {"input": "0.40", "output": "1.20", "currency": "USD"}


def test_think_tags_of_a_new_provider(tmp_path: Path) -> None:
    """A new host may send think tags, unless a row says that it doesn't, or the address is a known one."""
    operator_catalog = catalog(
        tmp_path,
        """
        [providers.acme]
        base_url = "https://llm.acme.example/v1"
        [providers.mirror]
        base_url = "https://api.mistral.ai/v1"
        [providers.plain]
        base_url = "https://plain.example/v1"
        quirks = { think_tags = false }

        [[models]]
        id = "acme/xml"
        quirks = { think_tags = false }
        [[models]]
        id = "vllm/xml"
        provider = "vllm"
        quirks = { think_tags = false }
        [[models]]
        id = "plain/first"
        quirks = { think_tags = true, think_opened = true }
        """,
        {},
    )
    tags = {"acme/any": True, "acme/xml": False, "vllm/xml": False, "mirror/any": False, "plain/any": False}
    assert {name: operator_catalog.resolve(name).quirks.think_tags for name in tags} == tags
    assert operator_catalog.resolve("acme/deepseek-r1").quirks.think_opened
    assert operator_catalog.resolve("plain/first").quirks.think_opened
    operator_catalog = catalog(tmp_path, 'think_opened = ["*muse*"]', {})
    assert operator_catalog.resolve("vllm/Muse-1").quirks.think_opened
    assert not operator_catalog.resolve("vllm/deepseek-r1").quirks.think_opened


def test_missing_variables_of_a_new_provider(tmp_path: Path) -> None:
    """A new provider reports its missing variables. A provider without variables needs none."""
    text = """
        [providers.acme]
        base_url = "https://llm.acme.example/v1"
        keys = ["ACME_KEY"]
        headers = { "X-Team" = "{ACME_TEAM}" }
        [providers.open]
        base_url = "http://10.0.0.7:8000/v1"
        """
    operator_catalog = catalog(tmp_path, text)
    assert operator_catalog.missing("acme") == "ACME_KEY and ACME_TEAM"
    assert operator_catalog.resolve("open/anything").title == "open"


def test_rows_are_overridden(tmp_path: Path) -> None:
    """Fields in the file override the shipped rows, and the other fields stay."""
    operator_catalog = catalog(
        tmp_path,
        """
        default_model = "fast"
        [aliases]
        fast = "kimi-k3"
        [providers.kimi]
        base_url = "https://proxy.example/v1"
        quirks = { drops = ["seed"] }
        [providers.glm]
        hidden = true
        [[models]]
        id = "kimi-k3"
        name = "Kimi of ours"
        context_window = 5000
        fallbacks = ["gpt-6-luna", "fast"]
        quirks = { drops = [] }
        [[models]]
        id = "qwen3.8-max"
        price = { input = "9", output = "9" }
        [[models]]
        id = "gpt-6-sol"
        hidden = true
        """,
    )
    route = operator_catalog.resolve(operator_catalog.default_model)
    assert (route.id, route.context_window) == ("kimi-k3", 5000)
    assert route.fallbacks == ("gpt-6-luna", "fast")
    assert (route.quirks.reasoning, route.quirks.drops, route.quirks.reasoning_back) == ("effort", frozenset(), True)
    assert operator_catalog.resolve("moonshot-v1").quirks.drops == {"seed"}
    assert operator_catalog.endpoint("kimi").base_url == "https://proxy.example/v1"
    qwen = operator_catalog.resolve("qwen3.8-max")
    assert qwen.price is not None
    assert qwen.own_price is not None
    assert (str(qwen.price.input), str(qwen.own_price.input)) == ("2", "9")
    models = {model.id: model for model in operator_catalog.models()}
    assert models["kimi-k3"].name == "Kimi of ours"
    assert models["kimi-k3"].aliases == ("fast",)
    assert models["qwen3.8-max"].price == {"input": "9", "output": "9", "currency": "USD"}
    assert not {"gpt-6-sol", "glm-5.3", "glm-cn/glm-5.3"} & set(models)
    assert operator_catalog.resolve("gpt-6-sol").provider == "openai", "it is hidden, but still resolved"


def test_json_file_of_other_tools(tmp_path: Path) -> None:
    """A JSON file with the field names of other tools is accepted."""
    operator_catalog = catalog(
        tmp_path,
        {
            "models": [
                {
                    "id": "gpt-4o",
                    "name": "GPT-4o",
                    "type": "openai",
                    "envKey": "OPENAI_API_KEY",
                    "supportsThinkingMode": False,
                    "features": ["chat", "streaming", "code"],
                },
                {
                    "id": "moonshot-v1-8k",
                    "name": "Moonshot",
                    "type": "moonshot",
                    "envKey": "OTHER_KEY",
                    "supportsThinkingMode": True,
                    "features": ["chat", "streaming"],
                },
                {"id": "llama", "type": "ollama", "envKey": None},
            ]
        },
        {"OTHER_KEY": "other-key-0123456789"},
    )
    models = {model.id: model for model in operator_catalog.models()}
    assert models["gpt-4o"].features == ("chat", "streaming", "code")
    assert (models["gpt-4o"].type, models["gpt-4o"].key, models["gpt-4o"].name) == (
        "openai",
        "OPENAI_API_KEY",
        "GPT-4o",
    )
    assert operator_catalog.resolve("gpt-4o").quirks.reasoning == "fixed", (
        "it has no thinking mode, so no effort is requested"
    )
    assert models["moonshot-v1-8k"].features == ("chat", "streaming", "thinking")
    assert (models["moonshot-v1-8k"].type, models["moonshot-v1-8k"].key) == ("kimi", "OTHER_KEY")
    route = operator_catalog.resolve("moonshot-v1-8k")
    assert operator_catalog.endpoint(route.provider).api_keys == ("other-key-0123456789",)
    assert operator_catalog.endpoint("kimi").api_keys == (KEY,)
    assert (models["llama"].type, models["llama"].available) == ("ollama", True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('models = "x"', "models: must be a list."),
        ('color = "red"', "color: unknown field. Remove it."),
        ("providers.acme = {}", "providers.acme.base_url: the field is missing for a new provider. Add it."),
        ('providers.acme.base_url = "acme.example"', "providers.acme.base_url: must begin with http:// or https://."),
        (
            'providers."a/b".base_url = "http://x"',
            "providers.a/b: the name of a provider must not be empty or contain / or :.",
        ),
        (
            'providers.kimi.keys = ["sk-live-canary-1234"]',
            "providers.kimi.keys[0]: must be the name of an environment variable, not its value.",
        ),
        ('providers.kimi.keys = "KIMI_KEY"', "providers.kimi.keys: must be a list."),
        ('providers.kimi.quirks = { reasoning = "much" }', "providers.kimi.quirks.reasoning: Input should be 'effort'"),
        ("providers.kimi.quirks = { speed = 1 }", "providers.kimi.quirks.speed: unknown field. Remove it."),
        (
            'providers.acme = { variant_of = "kimmi" }',
            "providers.acme.variant_of: provider kimmi not found. Correct the name, or add it.",
        ),
        ("[[models]]", "models[0].id: the field is missing. Add it."),
        (
            '[[models]]\nid = "x"',
            "models[0].provider: provider x not found. Add it under providers, with its base_url.",
        ),
        (
            '[[models]]\nid = "x"\nprovider = "kimmi"',
            "models[0].provider: provider kimmi not found. Did you mean kimi?",
        ),
        (
            '[[models]]\nid = "kimi-k3"\nprice = { input = "a", output = "1" }',
            "models[0].price.input: Input should be a valid decimal.",
        ),
        (
            '[[models]]\nid = "kimi-k3"\nprice = { input = "1" }',
            "models[0].price.output: the field is missing. Add it.",
        ),
        ('[[models]]\nid = "kimi-k3"\ncontext_window = 0', "models[0].context_window: Input should be greater than 0."),
        (
            '[[models]]\nid = "kimi-k3"\nfeatures = ["visoin"]',
            "models[0].features: unknown feature visoin. Did you mean vision?",
        ),
        (
            '[[models]]\nid = "kimi-k3"\nfeatures = ["Big Words"]',
            "models[0].features[0]: must be a word in lowercase.",
        ),
        ('[[models]]\nid = "kimi-k3"\nquirks = { speed = 1 }', "models[0].quirks.speed: unknown field. Remove it."),
        (
            '[[models]]\nid = "kimi-k3"\nfallbacks = ["nobody"]',
            "fallbacks of kimi-k3: model nobody not found. Correct the name, or add it.",
        ),
        ('aliases.fast = "nobody"', "aliases.fast: model nobody not found. Correct the name, or add it."),
        ('default_model = "nobody"', "default_model: model nobody not found. Correct the name, or add it."),
        ("[providers", "isn't valid TOML: "),
        ('{"models": [', "isn't valid JSON: "),
    ],
)
def test_errors_name_the_key_and_the_problem(tmp_path: Path, text: str, expected: str) -> None:
    """An error names the file, the key in it and the problem. It never repeats what may be a secret."""
    (error, *_) = errors_of(tmp_path, text)
    assert error.startswith(expected)
    assert "canary" not in error


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    """All errors are reported at once, with the field names of the file."""
    lines = errors_of(tmp_path, {"models": [{"id": "a", "type": "openai", "envKey": "a-b"}, {"id": "b", "type": 7}]})
    assert lines == [
        "models[0].envKey: must be the name of an environment variable, not its value.",
        "models[1].type: Input should be a valid string.",
    ]


def test_each_error_is_reported_exactly_once(tmp_path: Path) -> None:
    """In a file with many kinds of errors each is reported once, and no error suppresses or causes another."""
    text = """
        color = "red"
        default_model = 5
        [aliases]
        fast = "nobody"
        good = "acme/large"
        odd = 7
        [providers.acme]
        keys = "ACME_KEY"
        base_url = "acme.example"
        quirks = { speed = 1, reasoning = "thinking" }
        [providers.mirror]
        variant_of = "later"
        [providers.later]
        base_url = "https://later.example"
        [providers.third]
        variant_of = "mirror"
        [[models]]
        id = "acme/large"
        context_window = 0
        features = ["visoin"]
        price = { input = "1" }
        fallbacks = ["acme/other", "no-such-model"]
        [[models]]
        id = "x"
        provider = 3
        quirks = { speed = 1 }
        [[models]]
        id = "y"
        provider = "kimmi"
        fallbacks = ["x"]
        """
    assert errors_of(tmp_path, text) == [
        "default_model: Input should be a valid string.",
        "color: unknown field. Remove it.",
        "providers.acme.base_url: must begin with http:// or https://.",
        "providers.acme.keys: must be a list.",
        "providers.acme.quirks.speed: unknown field. Remove it.",
        "providers.third.variant_of: mirror is a variant itself. Name its provider.",
        "models[0].context_window: Input should be greater than 0.",
        "models[0].price.output: the field is missing. Add it.",
        "models[0].features: unknown feature visoin. Did you mean vision?",
        "models[1].provider: Input should be a valid string.",
        "models[1].quirks.speed: unknown field. Remove it.",
        "models[2].provider: provider kimmi not found. Did you mean kimi?",
        "aliases.odd: must be the name of a model, as text.",
        "aliases.fast: model nobody not found. Correct the name, or add it.",
        "fallbacks of acme/large: model no-such-model not found. Correct the name, or add it.",
    ]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ({"providers": {"acme": 5}, "models": [{"id": "acme/x"}, 7]}, ["providers.acme: ", "models[1]: "]),
        ({"defaultModel": 5, "models": [{"type": "openai"}]}, ["defaultModel: ", "models[0].id: "]),
    ],
)
def test_values_of_the_wrong_type(tmp_path: Path, text: dict[str, Any], lines: list[str]) -> None:
    """A value of the wrong type is reported, and the rest of the file is still checked."""
    found = errors_of(tmp_path, text)
    assert [error[: len(begin)] for error, begin in zip(found, lines, strict=True)] == lines


def test_proxies(tmp_path: Path) -> None:
    """The file's proxy is used for all providers except local ones, and a provider's own proxy overrides it.

    A proxy's URL may contain a variable, whose value is a secret.
    """
    operator_catalog = catalog(
        tmp_path,
        """
        proxy = "http://proxy.example:3128"
        [providers.glm]
        proxy = "http://{PROXY_LOGIN}@other.example:8080"
        [providers.qwen]
        proxy = ""
        """,
        {"PROXY_LOGIN": "ann:secret"},
    )
    found = {name: operator_catalog.endpoint(name).proxy for name in ("openai", "glm", "glm-cn", "qwen", "ollama")}
    own = "http://ann:secret@other.example:8080"
    assert found == {"openai": "http://proxy.example:3128", "glm": own, "glm-cn": own, "qwen": "", "ollama": ""}
    assert own in operator_catalog.endpoint("glm").secrets
    bare = '[providers.glm]\nproxy = "http://{PROXY_LOGIN}@other.example:8080"'
    assert catalog(tmp_path, bare).missing("glm") == "PROXY_LOGIN"
    assert errors_of(tmp_path, 'proxy = "socks5://x"') == ["proxy: must begin with http:// or https://."]


def test_a_variant_before_its_provider(tmp_path: Path) -> None:
    """A variant may come before its provider in the file."""
    text = '[providers.a]\nvariant_of = "b"\nbase_url = "http://a"\n[providers.b]\nbase_url = "http://b"'
    assert catalog(tmp_path, text).resolve("a/x").provider == "a"


def test_unreadable_file(tmp_path: Path) -> None:
    """The error for a file that can't be read or decoded names the file."""
    with pytest.raises(CatalogError, match=r"none\.toml: can't be read: No such file"):
        operator_rows(tmp_path / "none.toml")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(CatalogError, match="bytes: isn't UTF-8 text"):
        operator_rows(tmp_path / "bytes")


def test_removed_feature(tmp_path: Path) -> None:
    """A feature that the file removes is removed: a model without vision rejects images."""
    operator_catalog = catalog(tmp_path, '[[models]]\nid = "kimi-k3"\nfeatures = ["chat", "streaming"]')
    image = ChatRequest(model="m", messages=(ChatMessage("user", (ImagePart("image/png", data="A"),)),))
    with pytest.raises(ProviderError, match="can't see images"):
        operator_catalog.resolve("kimi-k3").check(image)


def test_shipped_rows_without_a_file() -> None:
    """Without a file, the catalog has the shipped rows."""
    assert [model.id for model in open_catalog({}, None).models()] == [row.id for row in shipped_rows().models]
