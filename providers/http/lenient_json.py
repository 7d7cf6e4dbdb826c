"""JSON as providers send it when they err: halves of characters, fields of another type, several documents. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)

DOCUMENTS_MAX: Final = 1000
"""More of them in one event aren't merged frames."""
MENDED_MAX: Final = 1000
"""An event with more objects that don't fit is no event of its dialect."""

_scan = json.JSONDecoder().raw_decode


def _between(text: str, at: int) -> re.Match[str]:
    """What may stand between documents: a frame's beginning, where two were glued together, or the end's mark."""
    found = _SEPARATORS.match(text, at)
    assert found is not None
    return found


_SEPARATORS = re.compile(r"(?:\s|data:|\[DONE\])*+")


def documents(data: bytes) -> list[Any]:
    """The JSON documents in `data`, one behind the other. A lone surrogate stays one, to be joined later.

    Raises `ValueError` if what stands there is no JSON.
    """
    text = data.decode("utf-8", "replace")
    found: list[Any] = []
    at = _between(text, 0).end()
    while at < len(text) or not found:
        if len(found) == DOCUMENTS_MAX:
            raise ValueError(f"there are more than {DOCUMENTS_MAX} documents in it")
        try:
            document, at = _scan(text, at)
        except RecursionError:
            raise ValueError("it is nested too deep") from None
        found.append(document)
        at = _between(text, at).end()
    return found


class _TooBroken(ValueError):
    """Too much of it doesn't fit."""


def fitting(document: Any, kind: type[S]) -> S:
    """`document` as a struct, without the fields that are of another type than it knows.

    What an event of another family calls the same is not the same. Raises `ValueError` where it is no object, or where
    too much of it doesn't fit.
    """
    return _mended(document, kind, iter(range(MENDED_MAX)))


def _mended(document: Any, kind: type[S], left: Iterator[int]) -> S:
    """`left`: how many more objects may be mended."""
    try:
        return msgspec.convert(document, kind, strict=False)
    except msgspec.ValidationError:
        if not isinstance(document, dict):
            raise
    if next(left, None) is None:
        raise _TooBroken(f"more than {MENDED_MAX} objects in it don't fit")
    kept: dict[str, Any] = {}
    for name, encoded, inner in _fields(kind):
        if encoded in document:
            try:
                kept[name] = _fitting(document[encoded], inner, left)
            except _TooBroken:
                raise
            except ValueError:
                continue
    return kind(**kept)


def _fitting(value: Any, kind: Any, left: Iterator[int]) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        for option in _options(kind):
            if isinstance(option, msgspec.inspect.StructType) and isinstance(value, dict):
                return _mended(value, option.cls, left)
            if isinstance(option, msgspec.inspect.ListType) and isinstance(value, list):
                inner = option.item_type
                if isinstance(inner, msgspec.inspect.StructType):
                    return [_mended(each, inner.cls, left) for each in value if isinstance(each, dict)]
        raise


@cache
def _fields(kind: type[msgspec.Struct]) -> list[tuple[str, str, Any]]:
    """A struct's fields: their names, those in JSON, and their types."""
    return [(field.name, field.encode_name, field.type) for field in msgspec.structs.fields(kind)]


@cache
def _options(kind: Any) -> tuple[msgspec.inspect.Type, ...]:
    """What a value of this type may be."""
    info = msgspec.inspect.type_info(kind)
    return info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
