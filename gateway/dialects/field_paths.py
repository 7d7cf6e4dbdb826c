"""The paths of fields in errors, translated from ours to those of a dialect's request. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MESSAGE_PATH = re.compile(r"^messages\[(\d{1,9})\]")
_INPUT_PATH = re.compile(r"^input(?:\[(\d{1,9})\])?")
_DATA_PATH = re.compile(r"(?<=\])\.(?:data|url|media_type)$")


def with_messages(path: str, origins: Sequence[int]) -> str:
    """Return a path with the number that a message has in the request. `origins[n]` is the number of our message n."""

    def message(match: re.Match[str]) -> str:
        n = int(match[1])
        return f"messages[{origins[n] if n < len(origins) else n}]"

    return _MESSAGE_PATH.sub(message, path)


def with_input(path: str, inputs: Sequence[str], whole: str) -> str:
    """Return a path in which `inputs[n]` stands for part n of the input, and `whole` for the input as a whole."""

    def part(match: re.Match[str]) -> str:
        n = len(inputs) if match[1] is None else int(match[1])
        return inputs[n] if n < len(inputs) else whole

    return _INPUT_PATH.sub(part, path)


def without_data(path: str) -> str:
    """Return a path without the field of the data of an image or a file, which the request has in another form."""
    return _DATA_PATH.sub("", path)
