"""`turnwire keys`."""

from __future__ import annotations

from pathlib import Path

import pytest

import gateway.__main__ as command
from gateway.identity.api_keys import ApiKeys


def test_a_new_key_is_shown_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The line alone is on standard output, so that it can be appended to the file; the key counts then."""
    command.main(["keys", "new", "--user", "ann", "--scopes", "chat,read", "--days", "1"])
    line, output = capsys.readouterr()
    key = next(word for word in output.split() if word.startswith("tw_"))
    assert key not in line
    (tmp_path / "keys").write_text(line)
    ann = ApiKeys(str(tmp_path / "keys")).credential(key)
    assert (ann.user, ann.scopes) == ("ann", frozenset({"chat", "read"}))
    assert ann.expires_ms is not None


def test_a_service_may_speak_for_its_users(capsys: pytest.CaptureFixture[str]) -> None:
    """Unless its scopes say otherwise."""
    command.main(["keys", "new", "--service", "backend"])
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
def test_what_makes_no_key_is_said(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    """And nothing is printed that could be taken for one."""
    with pytest.raises(SystemExit) as left:
        command.main(arguments)
    assert left.value.code == 2
    output = capsys.readouterr()
    assert words in output.err
    assert output.out == ""
