"""The conversions that the request bodies of OpenAI's two dialects share. They do no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.base import Effort, FilePart, ImagePart
from providers.quirks import Quirks


def sdk_arguments(body: dict[str, Any], parameters: frozenset[str]) -> dict[str, Any]:
    """Return `body` as arguments for the SDK. The fields that aren't among its `parameters` go into `extra_body`."""
    extra = {name: body.pop(name) for name in list(body) if name not in parameters}
    return body | {"extra_body": extra} if extra else body


def accepted(values: Mapping[str, Any], effort: Effort | None, quirks: Quirks) -> dict[str, Any]:
    """Return the values that are set and that the model accepts, given the `effort` of its reasoning."""
    drops = quirks.drops if effort == "none" else quirks.drops | quirks.drops_thinking
    return {name: value for name, value in values.items() if value is not None and name not in drops}


def merge_texts(pieces: list[dict[str, Any]], text_type: str) -> str | list[dict[str, Any]]:
    """Return the `pieces` of a message, or one text if all of them are of the type `text_type`."""
    if all(piece["type"] == text_type for piece in pieces):
        return "\n\n".join(piece["text"] for piece in pieces)
    return pieces


def data_url(part: ImagePart | FilePart) -> str | None:
    """Return the URL of an image or a file. If it has data, that is a data URL."""
    return f"data:{part.media_type};base64,{part.data}" if part.data is not None else part.url
