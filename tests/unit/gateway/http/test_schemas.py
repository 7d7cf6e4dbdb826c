"""Tests of the JSON schemas of types."""

from __future__ import annotations

from typing import get_args

from msgspec import Struct

from gateway.http.schemas import Schema, ref, referenced_schemas, schemas_of, select_fields, without_null
from gateway.protocol import requests as p
from gateway.protocol.events import Message
from gateway.protocol.plain_text import PLAIN_PATTERN
from providers.base import Part

PARTS: tuple[type[Struct], ...] = get_args(Part)


def test_schemas_include_all_nested_types() -> None:
    """Each schema is listed by name, with references to others."""
    found = schemas_of([Message])
    assert {part.__name__ for part in PARTS} | {"Message", "Usage", "Cost", "Timing", "ErrorBody"} == set(found)
    assert found["Message"]["properties"]["usage"]["anyOf"][0] == {"$ref": "#/components/schemas/Usage"}
    assert ref(Message) == {"$ref": "#/components/schemas/Message"}


def test_patterns_use_ecma_syntax() -> None:
    """A reader of the document might not use Python, so `\\A` and `\\Z` become `^` and `$`."""
    turn = schemas_of([p.TurnStart])["TurnStart"]["properties"]["turn"]
    assert without_null(turn)["pattern"] == r"^[A-Za-z0-9_.\-]{1,64}$"


def test_selected_fields_form_an_object() -> None:
    """Required fields stay required."""
    schema = schemas_of([p.FeedbackPut])["FeedbackPut"]
    body = select_fields(schema, ("rating", "comment"))
    assert (set(body["properties"]), body["required"]) == ({"rating", "comment"}, ["rating"])
    assert body["additionalProperties"] is False


def test_query_values_are_not_nullable() -> None:
    """A query value is present or absent, so null and a null default are removed."""
    fields = schemas_of([p.ConversationList])["ConversationList"]["properties"]
    pattern = PLAIN_PATTERN.replace(r"\A", "^").replace(r"\Z", "$")
    before = {"type": "string", "minLength": 1, "maxLength": 64, "pattern": pattern}
    assert without_null(fields["before"]) == {**before, "description": fields["before"]["description"]}
    assert without_null(fields["limit"]) == fields["limit"]
    assert without_null({"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}], "default": None}) == {
        "anyOf": [{"type": "integer"}, {"type": "string"}]
    }


def test_unreferenced_schemas_are_omitted() -> None:
    """A schema that is referenced only by an omitted one is also omitted. Cycles are handled."""
    schemas: dict[str, Schema] = {
        "A": {"items": {"$ref": "#/components/schemas/B"}},
        "B": {"anyOf": [{"$ref": "#/components/schemas/A"}]},
        "C": {"$ref": "#/components/schemas/D"},
        "D": {},
    }
    assert set(referenced_schemas({"x": [{"$ref": "#/components/schemas/A"}]}, schemas)) == {"A", "B"}
