"""The paths of fields in errors, translated from ours to those of a dialect's request. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MESSAGE_PATH = re.compile(r"^messages\[(\d{1,9})\]")
_INPUT_PATH = re.compile(r"^input(?:\[(\d{1,9})\])?")
_DATA_PATH = re.compile(r"(?<=\])\.(?:data|url|media_type)$")


def with_messages(path: str, origins: Sequence[int]) -> str:
    """Return a path in which the number of a message is that in the request: `origins` has it for each message."""

    def message(match: re.Match[str]) -> str:
        n = int(match[1])
        return f"messages[{origins[n] if n < len(origins) else n}]"

    return _MESSAGE_PATH.sub(message, path)


def with_input(path: str, inputs: Sequence[str], whole: str) -> str:
    """Return a path in which part number n of the input is `inputs[n]`. `whole` is the path of the input itself."""

    def part(match: re.Match[str]) -> str:
        n = len(inputs) if match[1] is None else int(match[1])
        return inputs[n] if n < len(inputs) else whole

    return _INPUT_PATH.sub(part, path)


def without_data(path: str) -> str:
    """Return a path without the field of the data of an image or a file, which the request has in another form."""
    return _DATA_PATH.sub("", path)
