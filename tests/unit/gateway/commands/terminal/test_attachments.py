"""Tests of the files that the chat in the terminal attaches."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import cast

import pytest

from gateway.commands.terminal import attachments
from gateway.commands.terminal.attachments import AttachmentError, attachment
from gateway.commands.terminal.prompt import completions
from gateway.commands.terminal.screen import Screen
from gateway.commands.terminal.slash import run_command
from gateway.commands.terminal.state import ChatState
from turnwire.client.sync import Gateway

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


def test_the_part_is_that_of_the_content(tmp_path: Path) -> None:
    """An image, a PDF and a text are told apart by their bytes, whatever their names."""
    for name, data, kind, media_type in (
        ("photo.txt", PNG, "image", "image/png"),
        ("scan", b"%PDF-1.7 text", "file", "application/pdf"),
        ("sound.mp3", b"ID3\xff\0", "file", "audio/mpeg"),
        ("unknown", b"\0\xff", "file", "application/octet-stream"),
    ):
        (tmp_path / name).write_bytes(data)
        content = base64.b64encode(data).decode()
        part = attachment(str(tmp_path / name))
        assert part == {"kind": kind, "media_type": media_type, "data": content, "name": name}
    (tmp_path / "notes.png").write_text("BMé", encoding="utf-8-sig")
    assert attachment(str(tmp_path / "notes.png")) == {"kind": "text", "text": "notes.png:\n\nBMé"}


def test_a_path_may_be_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal quotes the path of a file that is dropped on it. `~` is the home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my file.txt").write_text("x", encoding="utf-8")
    for name in (f"'{tmp_path}/my file.txt'", f"{tmp_path}/my\\ file.txt", "~/my file.txt", "'~/my file.txt'"):
        assert attachment(name)["text"] == "my file.txt:\n\nx"


def test_a_file_that_cannot_be_attached_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the file, and says what to do."""
    monkeypatch.setattr(attachments, "FILE_BYTES_MAX", 5_000_000)
    (tmp_path / "empty").touch()
    (tmp_path / "long").write_text("x" * 300_000, encoding="utf-8")
    (tmp_path / "large").write_bytes(bytes(5_000_001))
    os.mkfifo(tmp_path / "pipe")
    for name, words in (
        ("none", "There is no file"),
        (".", "isn't a file"),
        ("pipe", "isn't a file"),
        ("empty", "is empty"),
        ("long", "at most 200 KB"),
        ("large", "at most 5 MB"),
        ("x" * 10_000, "can't be read"),
        ("a\0b", "no file"),
    ):
        with pytest.raises(AttachmentError, match=words):
            attachment(str(tmp_path / name))
    with pytest.raises(AttachmentError, match="There is no file ~nobody-here/x"):
        attachment("~nobody-here/x")


def test_commands_and_paths_are_completed(tmp_path: Path) -> None:
    """The tab key completes a command at the start of a line, and a path after `/attach`."""
    (tmp_path / "one[1].png").touch()
    (tmp_path / "one").mkdir()
    words = ["/help", "/history"]
    assert completions("/h", words) == words
    assert completions("he", words) == []
    found = [f"/attach {tmp_path}/one/", f"/attach {tmp_path}/one[1].png"]
    assert completions(f"/attach {tmp_path}/o", words) == found
    assert completions(f"/attach {tmp_path}/one[", words) == found[1:]


def test_files_that_are_too_large_together(tmp_path: Path) -> None:
    """The gateway would refuse them in the middle of the upload, and the user wouldn't learn why."""
    (tmp_path / "scan.pdf").write_bytes(b"%PDF-" + bytes(9_000_000))
    output = io.StringIO()
    state = ChatState()
    for _ in range(2):
        run_command(f"/attach {tmp_path / 'scan.pdf'}", cast(Gateway, None), Screen(output, styled=False), state)
    assert len(state.attached) == len(state.attached_names) == 1
    assert "too large for one message" in output.getvalue()
