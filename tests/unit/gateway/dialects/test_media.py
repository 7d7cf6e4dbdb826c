"""Tests of files and images in requests of the dialects."""

from __future__ import annotations

import pytest

from gateway.dialects.media import media_part
from gateway.protocol.errors import ApiError
from providers.base import FilePart, ImagePart


def test_addresses_of_media() -> None:
    assert media_part("data:image/PNG;base64,aGk=", "x", image=True) == ImagePart("image/png", data="aGk=")
    assert media_part("data:text/plain;charset=utf-8;base64,aGk=", "x", "a.txt") == FilePart(
        "text/plain", data="aGk=", name="a.txt"
    )
    assert media_part("https://a.example/b.webp?c", "x", image=True).media_type == "image/webp"
    assert media_part("https://a.example/b", "x", image=True).media_type == "image/jpeg"
    with pytest.raises(ApiError):
        media_part("data:image/png,hello", "x", image=True)
