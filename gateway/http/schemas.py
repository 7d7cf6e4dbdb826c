"""The JSON schemas in the OpenAPI and AsyncAPI documents, generated from the types of the wire protocol."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.protocol import requests as p
from gateway.protocol.results import RESULTS

Schema = dict[str, Any]

DESCRIPTIONS = Path(__file__).with_name("field_descriptions.toml")
_ANSWERS: tuple[type[Struct], ...] = (p.Result, p.ResultPiece, p.ErrorAnswer)
_FRAMES = frozenset(kind.__name__ for kind in (*RESULTS, *_ANSWERS))
"""The socket's requests and answers."""

REF = "#/components/schemas/{name}"


def ref(kind: type[Struct]) -> Schema:
    """Return a reference to the schema of `kind`."""
    return {"$ref": REF.format(name=kind.__name__)}


def schemas_of(kinds: Iterable[type[Struct]]) -> dict[str, Schema]:
    """Return the schemas of `kinds` and of the types of their fields, by name."""
    _, found = msgspec.json.schema_components(list(kinds), ref_template=REF)
    return {name: _describe(name, _normalize(schema)) for name, schema in sorted(found.items())}


@cache
def _descriptions() -> dict[str, dict[str, str]]:
    return tomllib.loads(DESCRIPTIONS.read_text(encoding="utf-8"))


def description_of(kind: str, field: str) -> str:
    """Return the description of `field` in the struct that is called `kind`. It is empty if there is none."""
    described = _descriptions()
    tables = (kind, "TurnStart" if kind == "TurnEstimate" else "", "frames" if kind in _FRAMES else "", "fields")
    return next((described[table][field] for table in tables if field in described.get(table, ())), "")


def _describe(kind: str, schema: Schema) -> Schema:
    """Return an object's schema with the descriptions of its fields."""
    if "properties" not in schema:
        return schema
    fields = {
        name: {**inner, "description": text} if (text := description_of(kind, name)) else inner
        for name, inner in schema["properties"].items()
    }
    return {**schema, "properties": fields}


def _normalize(value: Any) -> Any:
    """Return a copy of `value` with its patterns in JSON Schema's syntax, and its docstrings without indentation.

    JSON Schema uses JavaScript's regular expressions, which have `^` and `$` but not `\\A` and `\\Z`.
    """
    if isinstance(value, dict):
        return {
            key: _normalize_text(key, inner) if isinstance(inner, str) else _normalize(inner)
            for key, inner in value.items()
        }
    return [_normalize(inner) for inner in value] if isinstance(value, list | tuple) else value


def _normalize_text(key: str, text: str) -> str:
    if key == "pattern":
        return text.replace(r"\A", "^").replace(r"\Z", "$")
    return cleandoc(text) if key == "description" else text


def referenced_schemas(value: Any, schemas: dict[str, Schema]) -> dict[str, Schema]:
    """Return the subset of `schemas` that `value` refers to, directly or through other schemas, by name."""
    found: dict[str, Schema] = {}
    pending = [value]
    while pending:
        inner = pending.pop()
        if isinstance(inner, dict):
            name = str(inner.get("$ref", "")).rpartition("/")[2]
            if name in schemas and name not in found:
                found[name] = schemas[name]
                pending.append(schemas[name])
            pending.extend(inner.values())
        elif isinstance(inner, list):
            pending.extend(inner)
    return dict(sorted(found.items()))


def select_fields(schema: Schema, fields: Iterable[str]) -> Schema:
    """Return an object's schema with only the properties in `fields`."""
    selected = set(fields)
    return {
        **schema,
        "properties": {name: inner for name, inner in schema["properties"].items() if name in selected},
        "required": [name for name in schema.get("required", ()) if name in selected],
    }


def without_null(schema: Schema) -> Schema:
    """Return `schema` without null as a type or a default, because a value in a path or a query is never null."""
    cleaned = {key: inner for key, inner in schema.items() if key != "default" or inner is not None}
    if "anyOf" in cleaned:
        choices = [choice for choice in cleaned.pop("anyOf") if choice != {"type": "null"}]
        cleaned |= choices[0] if len(choices) == 1 else {"anyOf": choices}
    return cleaned
