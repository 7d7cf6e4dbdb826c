"""The rules for an answer that broke off: which answers and which models, and the request by instruction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from providers.base import CitationPart, ImagePart, Part, ReasoningPart, RefusalPart, TextPart, ToolCallPart
from providers.catalog.catalog import Catalog
from providers.catalog.operator_file import CatalogError, operator_rows
from providers.continuation import continuing_request, said_text, way_to_continue
from tests.provider_requests import chat_request
from tests.upstream_providers import every_key

TEXT, THOUGHT = TextPart("So"), ReasoningPart("Hm")


@pytest.mark.parametrize(
    ("parts", "response_format", "way"),
    [
        ([], None, "restart"),
        ([THOUGHT], None, "restart"),
        ([THOUGHT, TextPart("\n\n")], {"type": "json_object"}, "restart"),
        ([TEXT], None, "continue"),
        ([THOUGHT, TEXT, CitationPart("https://a.example"), THOUGHT], {"type": "text"}, "continue"),
        ([TEXT], {"type": "json_object"}, None),
        ([TEXT, ToolCallPart("c", "f", "{}")], None, None),
        ([ToolCallPart("c", "f", '{"a"')], None, None),
        ([RefusalPart("No")], None, None),
        ([TEXT, ImagePart("image/png")], None, None),
    ],
)
def test_which_answers_are_continued(
    parts: list[Part], response_format: dict[str, Any] | None, way: str | None
) -> None:
    """Text is continued, and reasoning alone starts again. Calls, images, refusals and enforced formats are left alone."""
    assert way_to_continue(parts, response_format) == way


PREFILLED = [
    *("demo", "deepseek-v4-pro", "kimi-k3", "qwen3.8-max", "mistral-large-latest", "ollama/llama4", "vllm/any"),
    *("claude-haiku-4-5", "claude-opus-4-1-20250805", "claude-sonnet-4-20250514", "claude-3-opus-20240229"),
    *("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", "vertex/claude-opus-4@20250514"),
    *("openrouter/anthropic/claude-haiku-4.5", "groq/llama-4"),
]
NOT_PREFILLED = [
    *(
        "gpt-6-sol",
        "claude-opus-5-5",
        "claude-opus-4-6",
        "claude-sonnet-4-6-20260217",
        "qwen/qwen3-30b-a3b-thinking-2507",
    ),
    *("ollama/gpt-oss:20b", "groq/openai/gpt-oss-120b", "lmstudio/any", "gemini-3.8-flash", "openrouter/openai/gpt-6"),
    *("bedrock/us.anthropic.claude-opus-4-6-v1:0", "glm-5.3", "grok-4.7"),
]


def test_which_models_take_a_prefix() -> None:
    """The catalog decides by a model's name whether the model takes a prefix."""
    environment = every_key() | {"AWS_REGION": "r", "CLOUD_ML_REGION": "r", "ANTHROPIC_VERTEX_PROJECT_ID": "p"}
    catalog = Catalog(environment)
    assert {model: catalog.resolve(model).continuation for model in PREFILLED} == dict.fromkeys(PREFILLED, "prefill")
    assert {model: catalog.resolve(model).continuation for model in NOT_PREFILLED} == dict.fromkeys(NOT_PREFILLED)


FILE = """
continue = "{file}"
[providers.openai]
continue = "{provider}"
[[models]]
id = "gpt-6-sol"
continue = "{model}"
[[models]]
id = "kimi-k3"
continue = "{kimi}"
"""


@pytest.mark.parametrize(
    ("file", "provider", "model", "kimi", "ways"),
    [
        ("", "", "", "", [None, None, "prefill", None]),
        ("instruct", "", "", "instruct", ["instruct", "instruct", "prefill", "instruct"]),
        ("instruct", "off", "", "off", [None, None, None, "instruct"]),
        ("off", "instruct", "prefill", "", [None, "instruct", None, None]),
    ],
)
def test_what_the_operator_allows(
    tmp_path: Path, file: str, provider: str, model: str, kimi: str, ways: list[str | None]
) -> None:
    """A model's value overrides its provider's, and that overrides the file's. A prefix is preferred."""
    path = tmp_path / "models.toml"
    path.write_text(FILE.format(file=file, provider=provider, model=model, kimi=kimi), encoding="utf-8")
    catalog = Catalog(every_key(), operator_rows(path))
    models = ("gpt-6-sol", "openai/other", "kimi-k3", "glm-5.3")
    assert [catalog.resolve(name).continuation for name in models] == ways


def test_a_wrong_word_is_reported(tmp_path: Path) -> None:
    """The error names the field as the file does, at each level."""
    path = tmp_path / "models.toml"
    path.write_text(FILE.format(file="a", provider="b", model="c", kimi=""), encoding="utf-8")
    with pytest.raises(CatalogError) as caught:
        operator_rows(path)
    fields = [line.removeprefix(f"{path}: ").partition(": ")[0] for line in str(caught.value).splitlines()]
    assert sorted(fields) == ["continue", "models[0].continue", "providers.openai.continue"]


def test_an_instruction_names_the_last_words(tmp_path: Path) -> None:
    """The model gets all that was said, and is asked to repeat its last words."""
    path = tmp_path / "models.toml"
    path.write_text('continue = "instruct"', encoding="utf-8")
    route = Catalog(every_key(), operator_rows(path)).resolve("gpt-6-sol")
    said = "word " * 100 + "and the last one "
    request = continuing_request(chat_request("Hi").continuing([TextPart(said)]), route)
    first, answer, instruction = request.messages
    assert (first.role, answer.role, instruction.role) == ("user", "assistant", "user")
    assert (said_text(answer.parts), request.partial_answer) == (said.rstrip(), ())
    assert "<<<word word word word word word word word and the last one>>>" in said_text(instruction.parts)
