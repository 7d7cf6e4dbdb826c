"""The wire's types as JSON schemas, for both documents. Nothing in them is typed by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

Schema = dict[str, Any]

REF = "#/components/schemas/{name}"


def ref(kind: type[Struct]) -> Schema:
    """A reference to the schema of a type."""
    return {"$ref": REF.format(name=kind.__name__)}


def schemas_of(kinds: Iterable[type[Struct]]) -> dict[str, Schema]:
    """The schemas of the types and of all that is in them, by name."""
    _, found = msgspec.json.schema_components(list(kinds), ref_template=REF)
    return {name: _plain(schema) for name, schema in sorted(found.items())}


def _plain(value: Any) -> Any:
    """Patterns in the words of ECMA 262, which knows no `\\A` and `\\Z`."""
    if isinstance(value, dict):
        return {
            key: inner.replace(r"\A", "^").replace(r"\Z", "$")
            if key == "pattern" and isinstance(inner, str)
            else _plain(inner)
            for key, inner in value.items()
        }
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def named_in(value: Any, schemas: dict[str, Schema]) -> dict[str, Schema]:
    """Those of the schemas that `value` refers to, and that they refer to themselves."""
    found: dict[str, Schema] = {}
    left = [value]
    while left:
        inner = left.pop()
        if isinstance(inner, dict):
            name = str(inner.get("$ref", "")).rpartition("/")[2]
            if name in schemas and name not in found:
                found[name] = schemas[name]
                left.append(schemas[name])
            left.extend(inner.values())
        elif isinstance(inner, list):
            left.extend(inner)
    return dict(sorted(found.items()))


def only(schema: Schema, fields: Iterable[str]) -> Schema:
    """An object's schema with these of its fields."""
    kept = set(fields)
    return {
        **schema,
        "properties": {name: inner for name, inner in schema["properties"].items() if name in kept},
        "required": [name for name in schema.get("required", ()) if name in kept],
    }


def given(schema: Schema) -> Schema:
    """The schema of a value that is there: in an address nothing is null."""
    there = {key: inner for key, inner in schema.items() if key != "default" or inner is not None}
    if "anyOf" in there:
        choices = [choice for choice in there.pop("anyOf") if choice != {"type": "null"}]
        there |= choices[0] if len(choices) == 1 else {"anyOf": choices}
    return there
