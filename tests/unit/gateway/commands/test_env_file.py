"""Tests of the file `.env`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.commands.command_line import main
from gateway.commands.env_file import load_env_file


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory. Variables that a test sets are removed after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TURNWIRE_ENV_FILE", raising=False)
    for name in ("TURNWIRE_LEASE_S", "KIMI_API_KEY", "PORT"):
        monkeypatch.setenv(name, "")  # so that monkeypatch restores the variable after the test
        monkeypatch.delenv(name)
    return tmp_path


def write(file: Path, text: str, mode: int = 0o600) -> None:
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)


def test_the_file_sets_what_the_environment_doesnt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes, comments, `export` and Windows line endings are understood; a dollar sign is an ordinary character."""
    write(
        folder / ".env",
        "# comment\r\nTURNWIRE_LEASE_S=3 # seconds\r\nexport KIMI_API_KEY='sk-${HOME}'\r\nPORT=1\r\n",
    )
    monkeypatch.setenv("PORT", "2")
    load_env_file()
    assert (os.environ["TURNWIRE_LEASE_S"], os.environ["KIMI_API_KEY"], os.environ["PORT"]) == ("3", "sk-${HOME}", "2")


def test_no_file_is_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file, and with TURNWIRE_ENV_FILE set to nothing, nothing is read. A file that is named must exist."""
    load_env_file()
    write(folder / ".env", "PORT=1\n")
    monkeypatch.setenv("TURNWIRE_ENV_FILE", "")
    load_env_file()
    assert "PORT" not in os.environ
    monkeypatch.setenv("TURNWIRE_ENV_FILE", "other.env")
    with pytest.raises(FileNotFoundError):
        load_env_file()
    write(folder / "other.env", "PORT=3\n")
    load_env_file()
    assert os.environ["PORT"] == "3"


def test_a_file_that_others_can_read_has_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The warning says what to do. A file that only this user can read has none."""
    write(folder / ".env", "KIMI_API_KEY=sk-secret\n")
    load_env_file()
    assert capsys.readouterr() == ("", "")
    write(folder / ".env", "KIMI_API_KEY=sk-secret\n", 0o644)
    load_env_file()
    printed = capsys.readouterr().err
    assert ".env" in printed
    assert "chmod" in printed
    assert "sk-secret" not in printed


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("TURNWIRE_AUTH: jwt-s3cret", 1),
        ("TURNWIRE_AUTH:s3cret", 1),
        ("TURNWIRE_AUTH: =s3cret", 1),
        ('PORT=1\n\n# comment\n\nKIMI_API_KEY="s3cret\nTURNWIRE_LEASE_S=3\n', 5),
        ("PORT=1\r\n\r\nKIMI_API_KEY='s3cret\r\n", 3),
        ('KIMI_API_KEY="s3cret\nOTHER="x"\n', 1),
        ('KIMI_API_KEY="s3cret" more', 1),
        ("PORT=1\nKIMI_API_KEY", 2),
        ("export KIMI_API_KEY", 1),
        ("s3cret", 1),
        ("=s3cret", 1),
        ("- KIMI_API_KEY=s3cret", 1),
        ('"KIMI_API_KEY"=s3cret', 1),
        ("KIMI_API_KEY:=s3cret", 1),
        ("$env:KIMI_API_KEY=s3cret", 1),
        ("KIMI_API_KEY=s3cret\0", 1),
    ],
)
def test_a_line_that_cant_be_read_stops_the_start(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, line: int
) -> None:
    """One sentence names the file, the line and what to write. It doesn't quote the line, and no variable is set."""
    write(folder / ".env", text)
    with pytest.raises(SystemExit) as exited:
        main(["models"])
    assert exited.value.code == 2
    assert capsys.readouterr() == (
        "",
        f"turnwire: Line {line} of .env can't be read. Write NAME=value, with a quote at both ends of the value or at "
        "neither, or begin the line with # to leave it out.\n",
    )
    assert not {"PORT", "KIMI_API_KEY", "TURNWIRE_LEASE_S"} & os.environ.keys()


def test_unusual_lines_are_read(folder: Path) -> None:
    """This covers values of several lines, empty values, a byte order mark, blank lines, and names with dots."""
    write(
        folder / ".env", "\ufeff\n \n# a\nKIMI_API_KEY='a\nb'\n  PORT =  # none\nmy.app-name=x\nTURNWIRE_LEASE_S=\n\n"
    )
    load_env_file()
    assert (os.environ["KIMI_API_KEY"], os.environ["PORT"], os.environ["TURNWIRE_LEASE_S"]) == ("a\nb", "", "")
    assert os.environ.pop("my.app-name") == "x"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_in_another_encoding_stops_the_start(
    folder: Path, capsys: pytest.CaptureFixture[str], encoding: str
) -> None:
    """One sentence says how to save the file. It doesn't quote the file."""
    (folder / ".env").write_bytes("KIMI_API_KEY=s3cret-é\n".encode(encoding))
    with pytest.raises(SystemExit) as exited:
        main(["models"])
    assert exited.value.code == 2
    assert capsys.readouterr() == ("", "turnwire: .env isn't UTF-8 text. Save it as UTF-8.\n")
