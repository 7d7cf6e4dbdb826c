"""Tests of `turnwire models`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.commands import command_line
from providers.catalog.schema import shipped_rows


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which no provider has a key."""
    for row in shipped_rows().providers.values():
        for name in (*row.keys, *row.credentials, *(one for names in row.options.values() for one in names)):
            monkeypatch.delenv(name, raising=False)
    return monkeypatch


def rows(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Run the command, and return the rows of its tables of models and providers, by their first column."""
    command_line.main(["models"])
    models, providers = ([re.split(r"  +", line) for line in part.splitlines()] for part in split(capsys))
    return {row[0]: row for row in models}, {row[0]: row for row in providers}


def split(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Return the output before and after the sentence between the tables."""
    before, sentence, after = capsys.readouterr().out.partition(
        "Any other model of a provider is available as PROVIDER/MODEL"
    )
    assert sentence
    return before, after


def test_usable_models_come_first_and_others_say_what_they_need(
    no_keys: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Usable models are listed first. Each other model lists the variables that it needs."""
    no_keys.setenv("KIMI_API_KEY", "k")
    models, providers = rows(capsys)
    assert models["kimi-k3"][-1] == "ready"
    assert models["demo (default)"][-1] == "ready"
    assert models["gpt-6-sol"][-1] == "needs OPENAI_API_KEY"
    assert models["claude-haiku-4-5"][3] == "1 / 5"
    assert models["ernie-5.1"][3] == "-"
    assert models["qwen3.8-flash"][3] == "0.15 / 0.47"
    assert list(models).index("kimi-k3") < list(models).index("gpt-6-sol")
    assert providers["azure"][-1] == ("needs AZURE_OPENAI_API_KEY and (AZURE_OPENAI_ENDPOINT or AZURE_OPENAI_BASE_URL)")
    assert providers["kimi"][-1] == providers["ollama"][-1] == "ready"


def test_the_operators_file_is_applied(
    no_keys: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Aliases, the default model and hidden models are taken from the operator's file."""
    file = tmp_path / "models.toml"
    file.write_text(
        """
        default_model = "fast"
        aliases = { fast = "llama" }
        [providers.glm]
        hidden = true
        [[models]]
        id = "llama"
        provider = "ollama"
        """,
        encoding="utf-8",
    )
    no_keys.setenv("TURNWIRE_MODELS", str(file))
    models, providers = rows(capsys)
    assert "llama (default) = fast" in models
    assert "glm-5.3" not in models
    assert "glm" not in providers
