"""`turnwire archive`: the state of an archive, and its schema's upgrade and downgrade."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gateway.commands.command_line import main


def archive(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command. Return its exit code, and what it printed on standard output and standard error."""
    code = 0
    try:
        main(["archive", *arguments])
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_schema_is_upgraded_and_downgraded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each action prints the state afterwards, and the URL may be in a file that the variable names."""
    url = tmp_path / "url"
    url.write_text(f"sqlite:///{tmp_path}/archive.db\n")
    url.chmod(0o600)
    monkeypatch.setenv("TURNWIRE_ARCHIVE", f"@{url}")
    assert archive(capsys, "status") == (0, "database  SQLite, reachable\nschema    none (empty)\n", "")
    code, out, err = archive(capsys, "upgrade", "--to", "0001")
    assert (code, err) == (0, "")
    assert "0001 (older)" in out
    code, out, _ = archive(capsys, "upgrade")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["database", "SQLite,", "reachable"],
        ["schema", "0004", "(current)"],
        ["users", "0"],
        ["conversations", "0"],
        ["stored", "0.0", "MB"],
    ]
    assert "0001 (older)" in archive(capsys, "downgrade", "--to", "0001")[1]
    assert stat.S_IMODE((tmp_path / "archive.db").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("status",), 2, "There is no archive. Set TURNWIRE_ARCHIVE"),
        (("--archive", "postgresql://ann:pa55word@127.0.0.1:1/db", "status"), 1, "The archive can't be reached."),
        (("--archive", "oracle://ann:pa55word@127.0.0.1/db", "upgrade"), 1, "Unknown archive."),
        (("--archive", "sqlite:////nowhere/archive.db", "upgrade"), 1, "can't be opened"),
        (("--archive", "sqlite:///{}/archive.db", "upgrade", "--to", "x"), 1, "There is no revision 'x'."),
        (("downgrade",), 2, "--to"),
    ],
)
def test_what_fails_is_explained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], code: int, expected: str
) -> None:
    """In one sentence, without the password."""
    done = archive(capsys, *(argument.format(tmp_path) for argument in arguments))
    assert done[0] == code
    assert expected in done[2]
    assert "pa55word" not in done[2]


def test_a_password_on_the_command_line_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    """Other users of the machine can read it there."""
    _, _, err = archive(capsys, "--archive", "postgresql://ann:pa55word@127.0.0.1:1/db", "status")
    assert "use --archive @FILE, or set TURNWIRE_ARCHIVE" in err
