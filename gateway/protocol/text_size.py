"""Measure a value in a frame, and split and cut text to a size in a frame."""

from __future__ import annotations

from typing import Any

import msgspec

_JSON_ENCODER = msgspec.json.Encoder()
_MSGPACK_ENCODER = msgspec.msgpack.Encoder()


def encoded_size(value: Any) -> int:
    """Return how many bytes `value` takes inside a frame, in the codec that needs more."""
    return max(len(_JSON_ENCODER.encode(value)), len(_MSGPACK_ENCODER.encode(value)))


def chars_that_fit(bytes_max: int) -> int:
    """Return how many characters always fit in `bytes_max` bytes of a frame, including the quotes.

    A character takes at most six bytes, because JSON escapes control characters like \\u001f.
    """
    return (bytes_max - 2) // 6


def split_text(text: str, bytes_max: int) -> list[str]:
    """Split `text` into consecutive pieces. Each takes at most `bytes_max` bytes in a frame, or is one character."""
    if len(text) <= chars_that_fit(bytes_max):
        return [text]
    pieces: list[str] = []
    start = 0
    while start < len(text):
        # Each character takes at least one byte, so a longer slice can't fit.
        piece = clip_text(text[start : start + bytes_max], bytes_max) or text[start]
        pieces.append(piece)
        start += len(piece)
    return pieces or [text]


def clip_text(text: str, bytes_max: int) -> str:
    """Return a prefix of `text` that takes at most `bytes_max` bytes in a frame; empty if nothing fits."""
    text = text[: max(bytes_max, 0)]
    while text and (size := encoded_size(text)) > bytes_max:
        text = text[: len(text) * bytes_max // (size + 1)]
    return text
