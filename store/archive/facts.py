"""Values that the archive reads in a message: the words of its text, and the columns that people query."""

from __future__ import annotations

from decimal import Decimal
from hashlib import blake2b

import msgspec
from msgspec import Struct

from store.archive.types import INTEGER_MAX
from store.search_text import words

TERM_BYTES_MAX = 240
"""A longer word is indexed by its beginning. A phrase with such a word is looked up in the words themselves too."""
TERMS_BYTES_MAX = 900_000
"""The bytes of all terms of a message. PostgreSQL's limit is 1 MiB."""
NANOS = 1_000_000_000


class _Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None


class _Cost(Struct):
    amount: str = ""
    currency: str = ""


class Facts(Struct):
    """The fields of a body that people query."""

    model: str | None = None
    provider: str | None = None
    usage: _Usage | None = None
    cost: _Cost | None = None
    ended: str | None = None
    finish_reason: str | None = None

    def columns(self) -> dict[str, object]:
        """Return the columns of the message that a query may want. A number that no database holds is left out."""
        usage = self.usage or _Usage()
        counts = {name: getattr(usage, name) for name in _Usage.__struct_fields__}
        counts["cost_nano"] = _nano(self.cost)
        return {
            "model": self.model,
            "provider": self.provider,
            "ended": self.ended,
            "finish_reason": self.finish_reason,
            **{name: value if value is None or abs(value) <= INTEGER_MAX else None for name, value in counts.items()},
        }


_decode = msgspec.json.Decoder(Facts, float_hook=float).decode


def facts_of(body: bytes) -> Facts:
    """Return what a body says, or nothing if it isn't the body of a message."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Facts()


def search_words(text: str) -> str:
    """Return the words of `text` with a space around each; "" if it has none."""
    found = words(text)
    return f" {' '.join(found)} " if found else ""


def search_terms(user: str, spaced: str) -> str:
    """Return the different words of a user's text as the terms of the index, separated by spaces.

    `spaced`: the words, as `search_words` returns them.
    """
    prefix, terms, size = term_prefix(user), [], 0
    different = dict.fromkeys(spaced.split())
    if not different:
        return ""
    joined = prefix + f" {prefix}".join(different)
    if joined.isascii() and len(joined) <= TERMS_BYTES_MAX and max(map(len, different)) <= TERM_BYTES_MAX:
        return joined  # most texts: nothing has to be cut
    for word in different:
        term = prefix + cut_term(word)
        size += len(term.encode())
        if size > TERMS_BYTES_MAX:
            break
        terms.append(term)
    return " ".join(terms)


def term_prefix(user: str) -> str:
    """Return the prefix of each term of a user, so that a search reads only the user's part of the index."""
    return f"{blake2b(user.encode('utf-8', 'surrogatepass'), digest_size=5).hexdigest()}."


def cut_term(word: str) -> str:
    """Return the part of a word that is indexed."""
    encoded = word.encode()
    return word if len(encoded) <= TERM_BYTES_MAX else encoded[:TERM_BYTES_MAX].decode("utf-8", "ignore")


def _nano(cost: _Cost | None) -> int | None:
    if cost is None or cost.currency not in {"", "USD"}:
        return None
    try:
        nano = Decimal(cost.amount) * NANOS
        return int(nano) if abs(nano) <= INTEGER_MAX else None
    except (ArithmeticError, ValueError):
        return None
