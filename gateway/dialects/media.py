"""Files and images in requests of the dialects. No I/O."""

from __future__ import annotations

import mimetypes
import re

from gateway.protocol.errors import ApiError
from providers.base import FilePart, ImagePart

_DATA_URL = re.compile(r"data:([\w.+-]{1,100}/[\w.+-]{1,100})(?:;[\w.+-]{1,50}=[\w.+-]{1,50}){0,4};base64,", re.ASCII)


def media_part(url: str, path: str, name: str | None = None, *, image: bool = False) -> ImagePart | FilePart:
    """Return the part for the address of a file, or of an image if `image`. It may be a `data:` address.

    Raises `ApiError`.
    """
    match = _DATA_URL.match(url)
    if match is None:
        if url.startswith("data:"):
            raise ApiError("invalid_request", "Invalid data. Send data:TYPE;base64,… with the bytes.", path=path)
        guessed = mimetypes.guess_type(url.partition("?")[0])[0] or ""
        if image:
            return ImagePart(guessed if guessed.startswith("image/") else "image/jpeg", url=url, name=name)
        return FilePart(guessed or "application/pdf", url=url, name=name)
    media_type, data = match.group(1).lower(), url[match.end() :]
    made = ImagePart if image or media_type.startswith("image/") else FilePart
    return made(media_type, data=data, name=name)
