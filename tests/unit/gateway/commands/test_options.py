"""What the commands have in common."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from gateway.commands.options import fail, load_catalog, load_settings


def test_fail(capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence on standard error, and the exit code."""
    with pytest.raises(SystemExit) as exited:
        fail("No.", 3)
    assert exited.value.code == 3
    assert capsys.readouterr() == ("", "turnwire: No.\n")


def test_options_that_are_no_settings_are_left_alone() -> None:
    """A command's own options are its own; one that isn't given changes nothing."""
    settings = load_settings(Namespace(command="serve", model="kimi-k3", port=7, host=None))
    assert (settings.port, settings.host) == (7, "127.0.0.1")


def test_the_catalog_has_the_operator_s_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command sees the same models."""
    file = tmp_path / "models.json"
    file.write_text('{"models": [{"id": "llama", "type": "ollama"}]}', encoding="utf-8")
    monkeypatch.setenv("TURNWIRE_MODELS", str(file))
    assert load_catalog(load_settings(Namespace())).resolve("llama").provider == "ollama"


def test_a_wrong_file_ends_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and the file's name."""
    monkeypatch.setenv("TURNWIRE_MODELS", str(tmp_path / "none.toml"))
    with pytest.raises(SystemExit) as exited:
        load_catalog(load_settings(Namespace()))
    assert exited.value.code == 2
    assert "none.toml: can't be read" in capsys.readouterr().err


def test_settings_that_do_not_fit_together_are_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no single one's fault."""
    monkeypatch.setenv("TURNWIRE_AUTH", "jwt")
    with pytest.raises(SystemExit) as exited:
        load_settings(Namespace())
    assert exited.value.code == 2
    assert "Conflicting settings: TURNWIRE_AUTH=jwt requires a key" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "option"), [("store", "--store"), ("admin_token", "--token")])
def test_a_file_that_is_missing_is_said_of_its_option(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, option: str
) -> None:
    """Exit code 2, the option and the file."""
    with pytest.raises(SystemExit) as exited:
        load_settings(Namespace(**{name: f"@{tmp_path / 'none'}"}))
    assert exited.value.code == 2
    output = capsys.readouterr().err
    assert output.startswith(f"turnwire: {option} is invalid: the file ")
    assert "none' can't be read" in output
