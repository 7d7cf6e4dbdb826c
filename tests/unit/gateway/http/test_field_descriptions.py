"""The descriptions of fields and parameters in the API documents."""

from __future__ import annotations

import tomllib
from typing import Any

from gateway.http.asyncapi import asyncapi
from gateway.http.openapi import openapi
from gateway.http.schemas import DESCRIPTIONS
from tests.field_descriptions import updated_file

DESCRIBED: dict[str, dict[str, str]] = tomllib.loads(DESCRIPTIONS.read_text(encoding="utf-8"))


def schemas() -> dict[str, Any]:
    """Return the schemas of both documents, by name."""
    return {**asyncapi("host")["components"]["schemas"], **openapi("keys")["components"]["schemas"]}


def parameters() -> list[dict[str, Any]]:
    """Return the parameters of all operations."""
    operations = [operation for methods in openapi("keys")["paths"].values() for operation in methods.values()]
    return [parameter for operation in operations for parameter in operation["parameters"]]


def test_every_field_and_parameter_is_described() -> None:
    fields = [
        (kind, name, inner) for kind, one in schemas().items() for name, inner in one.get("properties", {}).items()
    ]
    assert len(fields) > 900
    assert [(kind, name) for kind, name, inner in fields if not inner.get("description")] == []
    assert [one["name"] for one in parameters() if not one["description"]] == []


def test_no_description_is_left_over() -> None:
    """Each entry describes a field that exists, and each text is a sentence."""
    fields = {(kind, name) for kind, one in schemas().items() for name in one.get("properties", {})}
    names = {name for _, name in fields} | {one["name"] for one in parameters()}
    assert DESCRIBED["fields"].keys() - names == set()
    tables = {kind: entries for kind, entries in DESCRIBED.items() if kind not in {"fields", "frames"}}
    assert {(kind, name) for kind, entries in tables.items() for name in entries} - fields == set()
    assert [text for entries in DESCRIBED.values() for text in entries.values() if text[-1] not in ".…"] == []


def test_the_fields_of_a_start_are_described_as_in_the_protocol() -> None:
    """docs/protocol.md is the specification: `make settings` copies its table."""
    assert DESCRIPTIONS.read_text(encoding="utf-8") == updated_file()
    start = schemas()["TurnStart"]["properties"]
    assert start["turn"]["description"].startswith("The client's id of the turn, which is also the idempotency key")
    assert schemas()["TurnStartBody"]["properties"]["turn"] == start["turn"]
