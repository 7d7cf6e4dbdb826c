"""Settings that may be read from a file, given as `@FILE`: secrets, and texts of several lines.

So a secret doesn't have to be on a command line, which every user of the machine can read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TextIO

from pydantic import AfterValidator

TEXT_BYTES_MAX = 65_536


def read_secret(value: str) -> str:
    """Return `value`, or the first line of the file if it is `@FILE`, without white space around that line.

    Raises `ValueError` if the file can't be used; the message contains nothing from the file.
    """
    if not value.startswith("@"):
        return value
    path = value[1:]
    line = _read(path, lambda file: file.readline()).strip()
    if not line:
        raise ValueError(f"the first line of the file {path!r} is empty")
    return line


def read_text(value: str) -> str:
    """Return `value`, or the text of the file if it is `@FILE`, without white space around it.

    Raises `ValueError` if the file can't be used, or if the text isn't UTF-8 or is over `TEXT_BYTES_MAX`; the message
    contains nothing of the text.
    """
    text = value
    if value.startswith("@"):
        path = value[1:]
        text = _read(path, lambda file: file.read(TEXT_BYTES_MAX + 1))
        if not text.strip():
            raise ValueError(f"the file {path!r} is empty")
    text = text.strip()
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("it isn't UTF-8 text") from None
    if size > TEXT_BYTES_MAX:
        raise ValueError(f"the text is longer than {TEXT_BYTES_MAX} bytes. Shorten it")
    return text


def _read(path: str, read: Callable[[TextIO], str]) -> str:
    """Return what `read` returns for the file. Raises `ValueError`."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return read(file)
    except OSError as error:
        raise ValueError(f"the file {path!r} can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError(f"the file {path!r} isn't UTF-8 text") from None


Secret = Annotated[str, AfterValidator(read_secret)]
Text = Annotated[str, AfterValidator(read_text)]
