"""Tests of the settings and the catalog of a command."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from gateway.commands.configuration import load_catalog, load_settings


def test_options_that_are_not_settings_are_ignored() -> None:
    """A command's own options are ignored, and an option that isn't given keeps the default."""
    settings = load_settings(Namespace(command="serve", model="kimi-k3", port=7, host=None))
    assert (settings.port, settings.host) == (7, "127.0.0.1")


def test_the_catalog_has_the_operators_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`load_catalog` adds the models of the operator's file."""
    file = tmp_path / "models.json"
    file.write_text('{"models": [{"id": "llama", "type": "ollama"}]}', encoding="utf-8")
    monkeypatch.setenv("TURNWIRE_MODELS", str(file))
    assert load_catalog(load_settings(Namespace())).resolve("llama").provider == "ollama"


def test_an_unreadable_models_file_exits_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error message names the file, and the exit code is 2."""
    monkeypatch.setenv("TURNWIRE_MODELS", str(tmp_path / "none.toml"))
    with pytest.raises(SystemExit) as exited:
        load_catalog(load_settings(Namespace()))
    assert exited.value.code == 2
    assert "none.toml: can't be read" in capsys.readouterr().err


def test_conflicting_settings_are_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The error message isn't attributed to a single option, and the exit code is 2."""
    monkeypatch.setenv("TURNWIRE_AUTH", "jwt")
    with pytest.raises(SystemExit) as exited:
        load_settings(Namespace())
    assert exited.value.code == 2
    assert "Conflicting settings: TURNWIRE_AUTH=jwt requires a key" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "option"), [("store", "--store"), ("admin_token", "--token")])
def test_a_missing_file_is_reported_with_its_option(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, option: str
) -> None:
    """The error message names the option and the file, and the exit code is 2."""
    with pytest.raises(SystemExit) as exited:
        load_settings(Namespace(**{name: f"@{tmp_path / 'none'}"}))
    assert exited.value.code == 2
    output = capsys.readouterr().err
    assert output.startswith(f"turnwire: {option} is invalid: the file ")
    assert "none' can't be read" in output
