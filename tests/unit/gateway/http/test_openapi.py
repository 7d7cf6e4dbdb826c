"""Tests of the OpenAPI document: it is valid and complete, and describes only what is served."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.http.openapi import openapi
from gateway.http.operations import OPERATIONS


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return found.union(*(references(inner) for inner in value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("auth", ["none", "jwt"])
def test_the_document_is_valid(auth: str) -> None:
    """A validator of the specification accepts it. It is JSON, and requires a credential where one is needed."""
    document = json.loads(json.dumps(openapi(auth)))
    OpenAPIV31SpecValidator(document).validate()
    either: list[object] = [{"bearer": []}, {"apiKey": []}]
    assert document.get("security") == (either if auth != "none" else None)
    schemes = document["components"].get("securitySchemes", {})
    assert [scheme.get("name", "authorization") for scheme in schemes.values()] == (
        ["authorization", "x-api-key"] if auth != "none" else []
    )
    for operation in OPERATIONS:
        shown = document["paths"][operation.path][operation.method.lower()]
        optional: list[object] = [{}, *either] if auth != "none" and operation.path == "/metrics" else []
        assert shown.get("security") == (optional if operation.is_public else None), operation.path


def test_every_operation_is_described() -> None:
    """Each operation occurs once and has a unique id."""
    paths = openapi("none")["paths"]
    shown = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert shown == {(operation.method, operation.path) for operation in OPERATIONS}
    ids = [one["operationId"] for methods in paths.values() for one in methods.values()]
    assert len(set(ids)) == len(ids)


def test_schemas_and_references_match() -> None:
    """Every referenced schema exists, and every schema is referenced."""
    document = openapi("none")
    named = {reference.rpartition("/")[2] for reference in references(document)}
    assert named == set(document["components"]["schemas"])


def test_a_start_is_described() -> None:
    """The description has the formats of the answer, the headers of a 202, and the body without `id` and `type`."""
    shown = openapi("none")["paths"]["/v1/turns"]["post"]
    assert set(shown["responses"]["200"]["content"]) == {
        "application/json",
        "text/event-stream",
        "application/x-ndjson",
    }
    assert shown["responses"]["202"]["headers"].keys() == {"Location", "Preference-Applied"}
    body = openapi("none")["components"]["schemas"]["TurnStartBody"]
    assert {"input", "messages", "params"} <= set(body["properties"])
    assert not {"id", "type"} & set(body["properties"])


def test_only_our_own_errors_are_described_as_ours() -> None:
    paths = openapi("none")["paths"]
    for operation in OPERATIONS:
        responses = paths[operation.path][operation.method.lower()]["responses"]
        for status in ("4XX", "5XX"):
            assert ("`error." in responses[status]["description"]) is (operation.dialect is None), operation.path
