"""Bodies with the content encoding x-gzip."""

from __future__ import annotations

import gzip
from collections import deque
from typing import cast

import aiohttp
import pytest

from providers.http.gunzip import PIECE_BYTES_MAX, Gunzip, is_x_gzip


class Pieces:
    """The part of `aiohttp.StreamReader` that `Gunzip` uses."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = deque(pieces)

    def read_nowait(self) -> bytes:
        return self._pieces.popleft() if self._pieces else b""


def decoded(*pieces: bytes) -> list[bytes]:
    reader = Gunzip(cast("aiohttp.StreamReader", Pieces(*pieces)))
    return list(iter(reader.read_nowait, b""))


def test_members_in_pieces() -> None:
    """The members of a body are decoded, wherever it is split, in pieces of bounded size."""
    raw = gzip.compress(b"Hello, ") + gzip.compress(b"") + gzip.compress(b"you." * 100_000)
    for size in (1, 7, len(raw)):
        pieces = decoded(*(raw[at : at + size] for at in range(0, len(raw), size)))
        assert b"".join(pieces) == b"Hello, " + b"you." * 100_000
        assert max(map(len, pieces)) <= PIECE_BYTES_MAX


def test_what_is_no_gzip() -> None:
    """Another format is an error of the connection. Only x-gzip is decoded here."""
    with pytest.raises(aiohttp.ClientPayloadError):
        decoded(b"data: {}\n\n")
    assert [name for name in ("x-gzip", " X-GZip", "gzip", "", "identity") if is_x_gzip(name)] == ["x-gzip", " X-GZip"]
