"""JSON as providers send it when they err: halves of characters, fields of another type, several documents. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)

_scan = json.JSONDecoder().raw_decode


def _between(text: str, at: int) -> re.Match[str]:
    """What may stand between documents: a frame's beginning, where two were glued together, or the end's mark."""
    found = _SEPARATORS.match(text, at)
    assert found is not None
    return found


_SEPARATORS = re.compile(r"(?:\s|data:|\[DONE\])*")


def documents(data: bytes) -> list[Any]:
    """The JSON documents in `data`, one behind the other. A lone surrogate stays one, to be joined later.

    Raises `ValueError` if what stands there is no JSON.
    """
    text = data.decode("utf-8", "replace")
    found: list[Any] = []
    at = _between(text, 0).end()
    while at < len(text) or not found:
        try:
            document, at = _scan(text, at)
        except RecursionError:
            raise ValueError("it is nested too deep") from None
        found.append(document)
        at = _between(text, at).end()
    return found


def fitting(document: Any, kind: type[S]) -> S:
    """`document` as a struct, without the fields that are of another type than it knows.

    What an event of another family calls the same is not the same. Raises `ValueError` where it is no object.
    """
    try:
        return msgspec.convert(document, kind, strict=False)
    except msgspec.ValidationError:
        if not isinstance(document, dict):
            raise
    kept: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.encode_name in document:
            try:
                kept[field.name] = _fitting(document[field.encode_name], field.type)
            except ValueError:
                continue
    return kind(**kept)


def _fitting(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        info = msgspec.inspect.type_info(kind)
        options = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
        for option in options:
            if isinstance(option, msgspec.inspect.StructType) and isinstance(value, dict):
                return fitting(value, option.cls)
            if isinstance(option, msgspec.inspect.ListType) and isinstance(value, list):
                inner = option.item_type
                if isinstance(inner, msgspec.inspect.StructType):
                    return [fitting(each, inner.cls) for each in value if isinstance(each, dict)]
        raise
