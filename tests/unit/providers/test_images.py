"""Images of providers are checked: base64, size, media type and URL. None that may hold a script is taken."""

from __future__ import annotations

import base64

import pytest

from providers.images import CHARS_MAX, SAFE_TYPES, SLICE_CHARS, InvalidImage, http_url, read_image

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
ENCODED = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    ("address", "claimed", "media_type"),
    [
        (f"data:image/png;base64,{ENCODED}", "", "image/png"),
        (f"DATA:image/jpeg;charset=utf-8;BASE64,{ENCODED}", "", "image/png"),
        (f"data:text/html;base64,{ENCODED}", "", "image/png"),
        (ENCODED, "image/svg+xml", "image/png"),
        (ENCODED, "", "image/png"),
        ("\n".join([ENCODED[:60], ENCODED[60:]]), "", "image/png"),
        (ENCODED.rstrip("="), "", "image/png"),
        (ENCODED.replace("+", "-").replace("/", "_"), "", "image/png"),
        (base64.b64encode(b"\xff\xd8\xff\xe0").decode(), "image/png", "image/jpeg"),
        (base64.b64encode(b"GIF89a").decode(), "", "image/gif"),
        (base64.b64encode(b"RIFF\0\0\0\0WEBPVP8 ").decode(), "", "image/webp"),
        (base64.b64encode(b"\0\0\0\x20ftypavif").decode(), "", "image/avif"),
        ("AAAA", "image/jpg", "image/jpeg"),
        ("AAAA", "image/webp", "image/webp"),
    ],
)
def test_an_image_has_the_type_of_its_bytes(address: str, claimed: str, media_type: str) -> None:
    """The bytes decide, then the claim. The data is valid base64 afterward, and its size is known."""
    image = read_image(address, claimed)
    assert (image.media_type, image.size) == (media_type, len(base64.b64decode(image.data, validate=True)))
    assert image.media_type in SAFE_TYPES


@pytest.mark.parametrize(
    ("address", "claimed"),
    [
        ("data:text/html;base64,PGI+", ""),
        ("data:image/svg+xml;base64,PHN2Zz4=", ""),
        ("data:image/svg+xml,<svg onload=alert(1)>", ""),
        ("data:image/png,%89PNG", ""),
        ("data:image/png;base64", ""),
        ("data:" + "x" * 5000, ""),
        ("data:;base64,PGI+", "text/html"),
        ("PHN2Zz4=", "image/svg+xml"),
        ("AAAA", "image/unknown"),
        ("AAAA", "IMAGE/SVG+XML "),
        ("not base64!", "image/png"),
        ("A", "image/png"),
        ("é" * 40, "image/png"),
        ("", "image/png"),
        ("====", "image/png"),
        ("A" * (CHARS_MAX + 4), "image/png"),
        ("A" * (SLICE_CHARS - 4) + "AA==" + "AAAA", "image/png"),
    ],
)
def test_other_data_is_refused(address: str, claimed: str) -> None:
    """Data that isn't base64, is too large, or may be a document is no image."""
    with pytest.raises(InvalidImage):
        read_image(address, claimed)


@pytest.mark.parametrize("size", [SLICE_CHARS // 4 * 3 - 1, SLICE_CHARS // 4 * 3, SLICE_CHARS // 4 * 3 + 1, 10**6])
def test_data_of_any_length_is_read_in_slices(size: int) -> None:
    """The data is the same, whatever its length."""
    data = base64.b64encode(PNG * (size // len(PNG) + 1))[: size // 3 * 4].decode()
    assert read_image(data) == ("image/png", data, size // 3 * 3)


def test_only_plain_urls_are_taken() -> None:
    """An http URL is returned as it is. One that is too long, or has blanks or invisible characters, is refused."""
    assert http_url("HTTPS://host.example/ä.png") == "HTTPS://host.example/ä.png"
    assert http_url("data:image/png;base64,AAAA") is None
    assert http_url("javascript:alert(1)") is None
    for bad in ("https://h/a b", "https://h/\u202e", "https://h/\ud800", "https://h/\n", "https://h/" + "a" * 9000):
        with pytest.raises(InvalidImage):
            http_url(bad)
