"""Tests of the warnings about secrets that other users of the machine can read. No warning contains the secret."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from gateway.commands.configuration import load_settings

STORE_URL = "redis://:pa55word@127.0.0.1:6379/1"


@pytest.mark.parametrize("source", ["option", "variable"])
def test_a_secret_can_be_read_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    """`@FILE` works in an option and in an environment variable.

    No warning is printed, and `repr` of the settings hides the secret.
    """
    file = tmp_path / "store"
    file.write_text(f"{STORE_URL}\n")
    file.chmod(0o600)
    if source == "variable":
        monkeypatch.setenv("TURNWIRE_STORE", f"@{file}")
    settings = load_settings(Namespace(store=f"@{file}" if source == "option" else None))
    assert settings.store_url == STORE_URL
    assert "pa55word" not in repr(settings)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"store": STORE_URL}, "--store @FILE, or set TURNWIRE_STORE"),
        ({"store": "unix:///run/redis.sock?password=pa55word"}, "--store @FILE, or set TURNWIRE_STORE"),
        ({"store": "redis://:pa55/word@127.0.0.1"}, "--store @FILE, or set TURNWIRE_STORE"),
        ({"admin_token": "pa55word"}, "--token @FILE, or set TURNWIRE_ADMIN_TOKEN"),
        ({"store": "redis://127.0.0.1:6379"}, None),
        ({"store": "redis://turnwire@127.0.0.1:6379"}, None),
        ({"store": "sqlite:///a:b@c.db"}, None),
        ({}, None),
    ],
)
def test_a_secret_on_the_command_line_is_accepted_with_a_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: dict[str, str], warning: str | None
) -> None:
    """The warning says what to do instead, and doesn't contain the secret.

    Secrets in the environment cause no warning, since other users can't read them.
    """
    monkeypatch.setenv("TURNWIRE_ADMIN_TOKEN", "pa55word")
    monkeypatch.setenv("TURNWIRE_STORE", STORE_URL)
    settings = load_settings(Namespace(**options))
    for name, value in options.items():
        assert getattr(settings, name) == value
    err = capsys.readouterr().err
    assert (err == "") if warning is None else (warning in err and err.count("\n") == 1)
    assert "pa55word" not in err


@pytest.mark.parametrize(
    ("mode", "is_warned"), [(0o600, False), (0o640, False), (0o644, True), (0o660, True), (0o602, True)]
)
@pytest.mark.parametrize("kind", ["keys", "store", "store in a variable", "token"])
def test_a_secrets_file_that_others_can_access_causes_a_warning(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    mode: int,
    is_warned: bool,
) -> None:
    """The group may read the file. Group write access, or any access by others, causes a warning."""
    file = tmp_path / "secrets"
    file.write_text("sqlite:///:memory:")
    file.chmod(mode)
    options: dict[str, str] = {}
    if kind == "keys":
        monkeypatch.setenv("TURNWIRE_AUTH", "keys")
        monkeypatch.setenv("TURNWIRE_API_KEYS", str(file))
    elif kind == "store in a variable":
        monkeypatch.setenv("TURNWIRE_STORE", f"@{file}")
    else:
        options["store" if kind == "store" else "admin_token"] = f"@{file}"
    load_settings(Namespace(**options))
    warning = capsys.readouterr().err
    assert (f"{file}, which should be private: run chmod 640" in warning) is is_warned
    assert warning.count("\n") == is_warned
