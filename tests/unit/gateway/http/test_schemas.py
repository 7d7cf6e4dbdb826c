"""Types as JSON schemas."""

from __future__ import annotations

from typing import get_args

from msgspec import Struct

from gateway.http.schemas import Schema, ref, referenced_schemas, schemas_of, select_fields, without_null
from gateway.protocol import requests as p
from gateway.protocol.events import Message
from gateway.protocol.plain_text import PLAIN_PATTERN
from providers.base import Part

PARTS: tuple[type[Struct], ...] = get_args(Part)


def test_schemas_hold_all_that_is_in_a_type() -> None:
    """By name, with what they refer to."""
    found = schemas_of([Message])
    assert {part.__name__ for part in PARTS} | {"Message", "Usage", "Cost"} == set(found)
    assert found["Message"]["properties"]["usage"]["anyOf"][0] == {"$ref": "#/components/schemas/Usage"}
    assert ref(Message) == {"$ref": "#/components/schemas/Message"}


def test_patterns_are_those_of_ecma() -> None:
    """Whoever reads the document may not speak Python; defaults are JSON."""
    turn = schemas_of([p.TurnStart])["TurnStart"]["properties"]["turn"]
    assert without_null(turn)["pattern"] == r"^[A-Za-z0-9_.\-]{1,64}$"


def test_a_part_of_an_object_is_an_object() -> None:
    """What is required of it stays so."""
    schema = schemas_of([p.FeedbackPut])["FeedbackPut"]
    body = select_fields(schema, ("rating", "comment"))
    assert (set(body["properties"]), body["required"]) == ({"rating", "comment"}, ["rating"])
    assert body["additionalProperties"] is False


def test_what_is_there_is_not_null() -> None:
    """In an address a value is absent or there; a default that says absent says nothing."""
    fields = schemas_of([p.ConversationList])["ConversationList"]["properties"]
    pattern = PLAIN_PATTERN.replace(r"\A", "^").replace(r"\Z", "$")
    assert without_null(fields["before"]) == {"type": "string", "minLength": 1, "maxLength": 64, "pattern": pattern}
    assert without_null(fields["limit"]) == fields["limit"]
    assert without_null({"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}], "default": None}) == {
        "anyOf": [{"type": "integer"}, {"type": "string"}]
    }


def test_what_nobody_refers_to_is_left_out() -> None:
    """Also what is only referred to by what is left out; circles end."""
    schemas: dict[str, Schema] = {
        "A": {"items": {"$ref": "#/components/schemas/B"}},
        "B": {"anyOf": [{"$ref": "#/components/schemas/A"}]},
        "C": {"$ref": "#/components/schemas/D"},
        "D": {},
    }
    assert set(referenced_schemas({"x": [{"$ref": "#/components/schemas/A"}]}, schemas)) == {"A", "B"}
