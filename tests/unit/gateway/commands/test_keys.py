"""Tests of `turnwire keys`."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.commands import command_line
from gateway.identity.api_keys import ApiKeys


def test_a_new_key_is_not_in_its_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Stdout contains only the line for the key file. A file with this line makes the key valid."""
    command_line.main(["keys", "new", "--user", "ann", "--scopes", "chat,read", "--days", "1"])
    line, output = capsys.readouterr()
    key = next(word for word in output.split() if word.startswith("tw_"))
    assert key not in line
    (tmp_path / "keys").write_text(line)
    ann = ApiKeys(str(tmp_path / "keys")).credential(key)
    assert (ann.user, ann.scopes) == ("ann", frozenset({"chat", "read"}))
    assert ann.expires_ms is not None


def test_a_service_key_has_the_scope_as(capsys: pytest.CaptureFixture[str]) -> None:
    """A service key has the scope `as` by default."""
    command_line.main(["keys", "new", "--service", "backend"])
    assert '"scopes":["as","cancel","chat","read"]' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["keys"], "ACTION"),
        (["keys", "new"], "--user"),
        (["keys", "new", "--user", "a", "--service", "b"], "not allowed with"),
        (["keys", "new", "--user", "a", "--scopes", "fly"], "Unknown scope fly"),
        (["keys", "new", "--user", "a", "--scopes", "as"], "requires `service`"),
        (["keys", "new", "--user", ""], "a user name must"),
    ],
)
def test_invalid_arguments_are_reported(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    """The exit code is 2, and nothing is printed to stdout that could be taken for a key."""
    with pytest.raises(SystemExit) as exited:
        command_line.main(arguments)
    assert exited.value.code == 2
    output = capsys.readouterr()
    assert words in output.err
    assert output.out == ""
