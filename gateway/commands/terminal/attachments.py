"""Files that the user attaches to a message: images, PDF documents and texts."""

from __future__ import annotations

import base64
import mimetypes
import shlex
from contextlib import suppress
from os.path import expanduser
from pathlib import Path
from typing import Any

FILE_BYTES_MAX = 14_000_000
"""As base64, this is just under the 20 MiB of a request (`TURNWIRE_BODY_BYTES`)."""
ATTACHED_CHARS_MAX = 19_000_000
"""All files of a message, as base64."""
TEXT_BYTES_MAX = 200_000
"""A text is a part of the input, whose default bound is 256 KiB (`TURNWIRE_INPUT_BYTES`)."""

_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"BM": "image/bmp",
}
_PDF = b"%PDF-"


class AttachmentError(Exception):
    """A file that can't be attached. Its text is a sentence for the user."""


def attachment(name: str) -> dict[str, Any]:
    """Return the part of a message for the file at the path `name`.

    Raises:
        AttachmentError: The file can't be read, is empty, or is too large.
    """
    path = _path(name)
    try:
        if not path.is_file():
            raise AttachmentError(
                f"{name} isn't a file. Check the path." if path.exists() else f"There is no file {name}."
            )
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise AttachmentError(f"{name} can't be read: {error.strerror}.") from None
    if not data:
        raise AttachmentError(f"{name} is empty.")
    if len(data) > FILE_BYTES_MAX:
        raise AttachmentError(f"{name} is too large: attach files of at most {FILE_BYTES_MAX // 1_000_000} MB.")
    return _part(path.name, data, name)


def _path(name: str) -> Path:
    """Return the path that `name` means. Terminals quote the path of a file that is dropped on them."""
    path = Path(expanduser(name))  # keeps the ~ of a user who doesn't exist
    with suppress(ValueError, OSError):
        if not path.exists() and len(words := shlex.split(name)) == 1:
            return Path(expanduser(words[0]))
    return path


def _part(file_name: str, data: bytes, name: str) -> dict[str, Any]:
    if not data.startswith(_PDF) and (text := _text(data)) is not None:
        if len(data) > TEXT_BYTES_MAX:
            raise AttachmentError(f"{name} is too long: attach texts of at most {TEXT_BYTES_MAX // 1000} KB.")
        return {"kind": "text", "text": f"{file_name}:\n\n{text}"}
    image = _image_type(data)
    guessed = mimetypes.guess_type(file_name)[0] or "application/octet-stream"
    media_type = image or ("application/pdf" if data.startswith(_PDF) else guessed)
    content = base64.b64encode(data).decode()
    return {"kind": "image" if image else "file", "media_type": media_type, "data": content, "name": file_name}


def _image_type(data: bytes) -> str | None:
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:12] == b"ftypavif":
        return "image/avif"
    return next((media_type for magic, media_type in _IMAGES.items() if data.startswith(magic)), None)


def _text(data: bytes) -> str | None:
    """Return the text of a file, or None if it isn't UTF-8 text."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text
