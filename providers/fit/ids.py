"""Ids of tool calls: unique ones for our own protocol, and ones in the form that a dialect takes."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

from providers.quirks import CallIds

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")
_SHORT: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
_NINE: Final = re.compile(r"[A-Za-z0-9]{9}")
_GIVEN_CHARS: Final = 28
_UNIQUE_CHARS: Final = 11


def digest(text: str, chars: int) -> str:
    """Return `chars` letters and digits, at most 20, that depend on all of `text`. Equal texts give equal digests."""
    number = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())
    digits = []
    for _ in range(chars):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(digits)


def own_call_id(message: str, part: int, given: str) -> str:
    """Return the id of the tool call that is part number `part` of the answer with the id `message`.

    It has at most 40 of `A-Za-z0-9_-`. It begins with the id that the provider has `given`, so that it can be found in
    the provider's logs. Its end depends on `message` and `part` only, so that no two calls of a user have the same id,
    and a replayed answer has the same ids again.
    """
    prefix = _UNSAFE.sub("_", given[:_GIVEN_CHARS]) or "call"
    return f"{prefix}_{digest(f'{message} {part}', _UNIQUE_CHARS)}"


class CallIdMaker:
    """The maker of the ids of one context, which are unique in it and have the form `form`.

    An id depends only on its call and on those before it, so that a context that has grown begins with the same bytes.
    """

    def __init__(self, form: CallIds) -> None:
        self._form = form
        self._count = 0
        self._used: set[str] = set()
        self._again: dict[str, int] = {}

    def next(self, stored: str, name: str) -> str:
        """Return the id of the next call of the context. `stored` is its id in our protocol, `name` the tool's name."""
        if self._form == "functions":
            self._count += 1
            return f"functions.{name}:{self._count - 1}"
        valid = (_NINE if self._form == "nine" else _SHORT).fullmatch(stored)
        made = stored if valid else self._make(stored)
        while made in self._used:
            # Counted for each id, so that a history in which all calls have the same id takes linear time.
            self._again[stored] = again = self._again.get(stored, 0) + 1
            made = self._make(f"{again} {stored}")
        self._used.add(made)
        return made

    def _make(self, seed: str) -> str:
        return digest(seed, 9) if self._form == "nine" else f"call_{digest(seed, 16)}"
