"""The check of an image that a provider sent: its base64 data and its media type. This module does no I/O."""

from __future__ import annotations

import binascii
from typing import Final, NamedTuple

CHARS_MAX: Final = 8 * 1024 * 1024
"""The maximum length of an image's base64 data."""
URL_BYTES_MAX: Final = 8192
SLICE_CHARS: Final = 256 * 1024
"""The number of base64 characters that are decoded at once, a multiple of 4. Other threads can run in between."""
SAFE_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"})
"""The media types of an answer's images. None of them can hold a script, unlike SVG."""

_MAGIC: Final = (
    (0, (b"\x89PNG\r\n\x1a\n",), "image/png"),
    (0, (b"\xff\xd8\xff",), "image/jpeg"),
    (0, (b"GIF87a", b"GIF89a"), "image/gif"),
    (8, (b"WEBP",), "image/webp"),
    (4, (b"ftypavif", b"ftypavis"), "image/avif"),
)
"""For each format: the position of its signature, the possible signatures, and the media type."""
_BLANKS: Final = b" \t\r\n"
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")


class Image(NamedTuple):
    """An image: one of `SAFE_TYPES`, valid base64 data, and the number of bytes that the data decodes to."""

    media_type: str
    data: str
    size: int


class InvalidImage(ValueError):
    """An image that can't be shown. `media_type` is the type that it has or claims to have, or empty."""

    def __init__(self, reason: str, media_type: str = "") -> None:
        super().__init__(reason)
        self.media_type = media_type


def http_url(address: str) -> str | None:
    """Return `address` if it is an http or https URL, else None. Raise `InvalidImage` if it is too long."""
    if not address[:8].lower().startswith(("http://", "https://")):
        return None
    if len(address) > URL_BYTES_MAX or len(address.encode("utf-8", "replace")) > URL_BYTES_MAX:
        raise InvalidImage("the URL is too long")
    if not address.isprintable() or " " in address:
        raise InvalidImage("the URL isn't valid")
    return address


def read_image(address: str, media_type: str = "") -> Image:
    """Return the image in `address`, a `data:` URL or base64 data. `media_type` is the one that its sender claims.

    The bytes decide the type if they are known, else the claim, if it is one of `SAFE_TYPES`. Raise `InvalidImage`.
    """
    payload = address
    if address[:5].lower() == "data:":
        head, comma, payload = address[:1024].partition(",")
        if not comma:
            raise InvalidImage("the data URL has no data")
        named, _, parameters = head[5:].partition(";")
        media_type = named or media_type
        if parameters.rpartition(";")[2].strip().lower() != "base64":
            raise InvalidImage("the data URL isn't base64", media_type)
        payload = address[len(head) + 1 :]
    if len(payload) > CHARS_MAX:
        raise InvalidImage("the image is too large")
    claimed = media_type.strip().lower()
    claimed = "image/jpeg" if claimed == "image/jpg" else claimed
    try:
        data = payload.encode("ascii")
        start, size = _decode(data)
    except ValueError:
        data = _repair(payload)
        try:
            start, size = _decode(data)
        except ValueError:
            raise InvalidImage("the data isn't base64", claimed) from None
    found = next((kind for at, magic, kind in _MAGIC if start.startswith(magic, at)), claimed or "image/png")
    if not size or found not in SAFE_TYPES:
        raise InvalidImage("the media type isn't one of an image that can be shown", found)
    return Image(found, data.decode("ascii"), size)


def _decode(data: bytes) -> tuple[bytes, int]:
    """Return the first bytes of base64 `data`, and the number of its bytes. Raise `ValueError` if it isn't valid."""
    start, size = b"", 0
    for first in range(0, len(data), SLICE_CHARS):
        decoded = binascii.a2b_base64(data[first : first + SLICE_CHARS], strict_mode=True)
        if first + SLICE_CHARS < len(data) and len(decoded) != SLICE_CHARS // 4 * 3:
            raise ValueError("padding within the data")
        start = start or decoded[:32]
        size += len(decoded)
    return start, size


def _repair(payload: str) -> bytes:
    """Return base64 data without line breaks, with the usual alphabet, and with its padding."""
    data = payload.encode("ascii", "replace").translate(_URL_SAFE, _BLANKS).rstrip(b"=")
    return data + b"=" * (-len(data) % 4)
