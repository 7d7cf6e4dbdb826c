"""The decoding of `Content-Encoding: x-gzip`, the old name of gzip (RFC 9110 8.4.1.3), which aiohttp doesn't know."""

from __future__ import annotations

import zlib
from typing import Final

import aiohttp

PIECE_BYTES_MAX: Final = 64 * 1024
"""The maximum size of a decoded piece, so that a small body can't fill the memory."""


def is_x_gzip(encoding: str) -> bool:
    """Return whether a response with this content encoding has to be decoded here."""
    return encoding.strip().lower() == "x-gzip"


class Gunzip:
    """A reader of the decoded bytes of `content`. A body may have several members, one after another."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._packed = b""

    def read_nowait(self) -> bytes:
        """Return decoded bytes that have arrived, or b"" if there are none. Raise `ClientPayloadError` if it isn't gzip."""
        while self._packed or (packed := self._content.read_nowait()):
            self._packed = self._packed or packed
            if self._member.eof:
                self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                piece = self._member.decompress(self._packed, PIECE_BYTES_MAX)
            except zlib.error as error:
                raise aiohttp.ClientPayloadError("the body isn't gzip") from error
            self._packed = self._member.unconsumed_tail or self._member.unused_data
            if piece:
                return piece
        return b""
