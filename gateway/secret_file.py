"""A setting that may stand in a file, `@FILE`: what is on a command line every user of the machine can read."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def read_secret(given: str) -> str:
    """What was given, or of `@FILE` the first line. Raises `ValueError`, which says nothing of what is in the file."""
    if not given.startswith("@"):
        return given
    path = given[1:]
    try:
        with open(path, encoding="utf-8") as file:
            line = file.readline().strip()
    except OSError as error:
        raise ValueError(f"the file {path!r} can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError(f"the file {path!r} isn't text in UTF-8") from None
    if not line:
        raise ValueError(f"the file {path!r} has nothing in its first line")
    return line


Secret = Annotated[str, AfterValidator(read_secret)]
