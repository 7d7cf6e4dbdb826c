"""Lenient decoding of faulty JSON from providers: lone surrogates, wrong types, several documents. It does no I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)

DOCUMENTS_MAX: Final = 1000
"""The maximum of documents in one event. More than that isn't a result of merged frames."""
MENDED_MAX: Final = 1000
"""The maximum of objects to mend in one event. An event with more doesn't belong to its dialect."""

_scan = json.JSONDecoder().raw_decode


def _between(text: str, at: int) -> re.Match[str]:
    """Match the separators at `at`: white space, the start of a frame that was merged in, or the end mark."""
    found = _SEPARATORS.match(text, at)
    assert found is not None
    return found


_SEPARATORS = re.compile(r"(?:\s|data:|\[DONE\])*+")


def documents(data: bytes) -> list[Any]:
    """Return the consecutive JSON documents in `data`. Keep lone surrogates, which are joined later.

    Raise `ValueError` if `data` isn't JSON.
    """
    text = data.decode("utf-8", "replace")
    found: list[Any] = []
    at = _between(text, 0).end()
    while at < len(text) or not found:
        if len(found) == DOCUMENTS_MAX:
            raise ValueError(f"more than {DOCUMENTS_MAX} JSON documents in one event")
        try:
            document, at = _scan(text, at)
        except RecursionError:
            raise ValueError("JSON nested too deep") from None
        found.append(document)
        at = _between(text, at).end()
    return found


class _TooBroken(ValueError):
    """Too many objects of an event don't match their types."""


def fitting(document: Any, kind: type[S]) -> S:
    """Return `document` as a struct of type `kind`, without the fields that have another type.

    A field of the same name in another family of events may have another meaning. Raise `ValueError` if `document`
    isn't an object, or if too many objects in it don't match.
    """
    return _mended(document, kind, iter(range(MENDED_MAX)))


def _mended(document: Any, kind: type[S], left: Iterator[int]) -> S:
    """Convert `document` to `kind`, without mismatched fields. `left` has one element per object that may be mended."""
    try:
        return msgspec.convert(document, kind, strict=False)
    except msgspec.ValidationError:
        if not isinstance(document, dict):
            raise
    if next(left, None) is None:
        raise _TooBroken(f"more than {MENDED_MAX} objects don't match their types")
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
    """Return the fields of a struct as (name, name in JSON, type)."""
    return [(field.name, field.encode_name, field.type) for field in msgspec.structs.fields(kind)]


@cache
def _options(kind: Any) -> tuple[msgspec.inspect.Type, ...]:
    """Return the alternatives of a type: the members of a union, or the type itself."""
    info = msgspec.inspect.type_info(kind)
    return info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
