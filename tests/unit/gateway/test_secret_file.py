"""`@FILE` in place of a secret: its first line counts, and what is wrong with it is said without what is in it."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from gateway.secret_file import read_secret

URL = "rediss://:pa55word@redis:6379/1"


@pytest.mark.parametrize("text", [URL, f"{URL}\n", f"  {URL} \r\n# of the production\n"])
def test_the_first_line_counts(tmp_path: Path, text: str) -> None:
    """However an editor or a secret's mount ends it."""
    file = tmp_path / "store"
    file.write_bytes(text.encode())
    assert read_secret(f"@{file}") == URL


def test_what_is_no_file_is_the_value() -> None:
    """Also with an @ elsewhere."""
    assert read_secret(URL) == URL
    assert read_secret("") == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read (No such file or directory)"),
        (b"", "first line of the file"),
        (f"\n{URL}\n".encode(), "first line of the file"),
        (f"{URL}\xff".encode("latin-1"), "isn't UTF-8 text"),
    ],
    ids=["missing", "empty", "an empty line", "bytes"],
)
def test_a_file_that_does_not_do_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    """And nothing of it is repeated."""
    file = tmp_path / "store"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match="file") as refused:
        read_secret(f"@{file}")
    assert words in str(refused.value)
    assert str(file) in str(refused.value)
    assert "pa55word" not in "".join(traceback.format_exception(refused.value))


def test_a_folder_and_no_name_are_no_files(tmp_path: Path) -> None:
    """As `--store @` with a variable of the shell that is empty."""
    for given in (f"@{tmp_path}", "@"):
        with pytest.raises(ValueError, match="can't be read"):
            read_secret(given)
