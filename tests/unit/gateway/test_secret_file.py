"""`@FILE` in place of a secret or a text: what is read from the file, and errors that don't show its content."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from gateway.secret_file import TEXT_BYTES_MAX, read_secret, read_text

URL = "rediss://:pa55word@redis:6379/1"


@pytest.mark.parametrize("text", [URL, f"{URL}\n", f"  {URL} \r\n# of the production\n"])
def test_the_first_line_is_the_secret(tmp_path: Path, text: str) -> None:
    """The secret is the first line without the white space around it, so the file may have any line ending or none."""
    file = tmp_path / "store"
    file.write_bytes(text.encode())
    assert read_secret(f"@{file}") == URL


def test_a_value_without_an_at_sign_prefix_is_returned() -> None:
    """A value that doesn't begin with `@` is returned unchanged, even if it has an `@` elsewhere."""
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
    ids=["missing", "empty", "empty first line", "not UTF-8"],
)
def test_an_unusable_file_is_named_in_the_error(tmp_path: Path, content: bytes | None, words: str) -> None:
    """The error names the file and shows nothing of its content."""
    file = tmp_path / "store"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match="file") as refused:
        read_secret(f"@{file}")
    assert words in str(refused.value)
    assert str(file) in str(refused.value)
    assert "pa55word" not in "".join(traceback.format_exception(refused.value))


def test_a_folder_or_an_empty_name_is_refused(tmp_path: Path) -> None:
    """A folder and an empty name (`--store @$NAME` if the shell variable is empty) are refused."""
    for given in (f"@{tmp_path}", "@"):
        with pytest.raises(ValueError, match="can't be read"):
            read_secret(given)


def test_a_text_is_the_whole_file(tmp_path: Path) -> None:
    """A text may have several lines and up to `TEXT_BYTES_MAX` bytes. White space around it is removed, with or without
    `@`."""
    file = tmp_path / "prompt.md"
    file.write_text("\ufeff\nBe brief.\r\n\nDon't swear: ¡no!\n\n", encoding="utf-8")
    assert read_text(f"@{file}") == "Be brief.\n\nDon't swear: ¡no!"
    assert read_text(" Be brief.\n") == "Be brief."
    assert read_text("") == ""
    file.write_text("é" * (TEXT_BYTES_MAX // 2), encoding="utf-8")
    assert len(read_text(f"@{file}")) == TEXT_BYTES_MAX // 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read (No such file or directory)"),
        (b" \n\n", "is empty"),
        (b"pa55word\xff", "isn't UTF-8 text"),
        (b"pa55word" * TEXT_BYTES_MAX, f"longer than {TEXT_BYTES_MAX} bytes. Shorten it"),
        ("é".encode() * (TEXT_BYTES_MAX // 2 + 1), f"longer than {TEXT_BYTES_MAX} bytes. Shorten it"),
    ],
    ids=["missing", "empty", "not UTF-8", "long", "long in bytes"],
)
def test_an_unusable_text_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    """The error says what is wrong with the file and shows nothing of its content."""
    file = tmp_path / "prompt.md"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=r"file|text") as refused:
        read_text(f"@{file}")
    assert words in str(refused.value)
    assert "pa55word" not in "".join(traceback.format_exception(refused.value))


def test_a_text_that_no_provider_could_take_is_refused() -> None:
    """Python reads a byte of the environment that isn't UTF-8 as a lone surrogate. The JSON of a request can't be encoded
    with it, so the text is refused."""
    with pytest.raises(ValueError, match="isn't UTF-8 text"):
        read_text("Be \udcff brief.")
