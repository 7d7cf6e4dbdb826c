"""A setting that may be read from a file, given as `@FILE`.

So a secret doesn't have to be on a command line, which every user of the machine can read.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def read_secret(value: str) -> str:
    """Return `value`, or the first line of the file if it is `@FILE`.

    Raises `ValueError` if the file can't be used; the message contains nothing from the file.
    """
    if not value.startswith("@"):
        return value
    path = value[1:]
    try:
        with open(path, encoding="utf-8") as file:
            line = file.readline().strip()
    except OSError as error:
        raise ValueError(f"the file {path!r} can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError(f"the file {path!r} isn't UTF-8 text") from None
    if not line:
        raise ValueError(f"the first line of the file {path!r} is empty")
    return line


Secret = Annotated[str, AfterValidator(read_secret)]
