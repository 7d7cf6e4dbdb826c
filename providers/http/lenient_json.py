"""Lenient decoding of faulty JSON from providers: lone surrogates, wrong types, several documents. This module does no I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from providers.http.sse import InvalidEvent

S = TypeVar("S", bound=msgspec.Struct)

DOCUMENTS_MAX: Final = 1000
"""The maximum number of documents in one event. More than that isn't a result of merged frames."""
MISMATCHES_MAX: Final = 1000
"""The maximum number of mismatched objects in one document. A document with more doesn't belong to its dialect."""

_SEPARATORS: Final = re.compile(r"(?:\s|data:|\[DONE\])*+")
"""What separates documents: white space, the start of a frame that was merged in, or the end mark."""
_parse_document = json.JSONDecoder().raw_decode


def parse_documents(data: bytes) -> list[Any]:
    """Return the consecutive JSON documents in `data`. Keep lone surrogates, which are joined later.

    Raise `InvalidEvent` if `data` isn't JSON.
    """
    text = data.decode("utf-8", "replace")
    documents: list[Any] = []
    end = _skip_separators(text, 0)
    while end < len(text) or not documents:
        if len(documents) == DOCUMENTS_MAX:
            raise InvalidEvent(f"more than {DOCUMENTS_MAX} JSON documents in one event")
        try:
            document, end = _parse_document(text, end)
        except RecursionError:
            raise InvalidEvent("JSON nested too deep") from None
        except ValueError as error:
            raise InvalidEvent(str(error)) from None
        documents.append(document)
        end = _skip_separators(text, end)
    return documents


def _skip_separators(text: str, begin: int) -> int:
    match = _SEPARATORS.match(text, begin)
    assert match is not None
    return match.end()


def decode_events(data: bytes, decoder: msgspec.json.Decoder[S]) -> list[S]:
    """Decode the data of an event. If `decoder` rejects it, decode it leniently.

    If frames were merged, return one struct for each that held an object. Raise `InvalidEvent` if `data` isn't valid.
    """
    try:
        return [decoder.decode(data)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        documents = parse_documents(data)
        objects = [document for document in documents if isinstance(document, dict)]
        return [convert_leniently(document, decoder.type) for document in objects or documents]


def convert_leniently(document: Any, kind: type[S]) -> S:
    """Return `document` as a struct of type `kind`, without the fields that have another type.

    Such a field isn't an error: an event of another family may use the same name for something else. Raise
    `InvalidEvent` if `document` isn't an object, or if too many objects in it don't match.
    """
    try:
        return _convert_struct(document, kind, iter(range(MISMATCHES_MAX)))
    except ValueError as error:
        raise InvalidEvent(str(error)) from None


def _convert_struct(document: Any, kind: type[S], budget: Iterator[int]) -> S:
    """Convert `document` to `kind`, without mismatched fields. `budget` has an element per object that may mismatch."""
    try:
        return msgspec.convert(document, kind, strict=False)
    except msgspec.ValidationError:
        if not isinstance(document, dict):
            raise
    if next(budget, None) is None:
        raise InvalidEvent(f"more than {MISMATCHES_MAX} objects don't match their types")
    fields: dict[str, Any] = {}
    for name, encoded, inner in _fields(kind):
        if encoded in document:
            try:
                fields[name] = _convert_value(document[encoded], inner, budget)
            except InvalidEvent:
                raise
            except ValueError:
                continue
    return kind(**fields)


def _convert_value(value: Any, kind: Any, budget: Iterator[int]) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        for option in _options(kind):
            if isinstance(option, inspect.StructType) and isinstance(value, dict):
                return _convert_struct(value, option.cls, budget)
            if isinstance(option, inspect.ListType) and isinstance(value, list):
                return _convert_items(value, option.item_type, budget)
        raise


def _convert_items(items: list[Any], kind: inspect.Type, budget: Iterator[int]) -> list[Any]:
    """Convert a list whose items are structs, or structs and texts. Drop the other items."""
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    struct = next((each.cls for each in kinds if isinstance(each, inspect.StructType)), None)
    if struct is None:
        raise msgspec.ValidationError("not a list of objects")
    has_texts = any(isinstance(each, inspect.StrType) for each in kinds)
    return [
        item if isinstance(item, str) else _convert_struct(item, struct, budget)
        for item in items
        if isinstance(item, dict) or (has_texts and isinstance(item, str))
    ]


@cache
def _fields(kind: type[msgspec.Struct]) -> list[tuple[str, str, Any]]:
    """Return the fields of a struct as (name, name in JSON, type)."""
    return [(field.name, field.encode_name, field.type) for field in msgspec.structs.fields(kind)]


@cache
def _options(kind: Any) -> tuple[inspect.Type, ...]:
    """Return the alternatives of a type: the members of a union, or the type itself."""
    info = inspect.type_info(kind)
    return info.types if isinstance(info, inspect.UnionType) else (info,)
