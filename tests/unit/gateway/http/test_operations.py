"""Checks that the table of operations is consistent."""

from __future__ import annotations

import re

import msgspec
import pytest

from gateway.http.openapi import openapi
from gateway.http.operation import Operation
from gateway.http.operations import OPERATIONS


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.method} {operation.path}")
def test_all_fields_of_an_operation_are_in_its_request(operation: Operation) -> None:
    """Path parameters and query or body fields are all fields of the request, and no field is both."""
    in_path = set(re.findall(r"\{(\w+)\}", operation.path))
    assert not in_path & set(operation.fields)
    known = operation.request.__struct_encode_fields__ if operation.request else ()
    assert in_path | set(operation.fields) <= set(known)
    assert "id" not in operation.fields


def test_operations_have_unique_paths_and_methods() -> None:
    """No two operations have the same method and path."""
    assert len({(operation.method, operation.path) for operation in OPERATIONS}) == len(OPERATIONS)


def test_an_address_below_openai_is_a_second_address_of_the_same_operation() -> None:
    """It has the same handler, request, responses and documentation. tests/e2e/test_schemathesis.py relies on that."""
    paths = openapi("none")["paths"]
    by_address = {(operation.method, operation.path): operation for operation in OPERATIONS}
    mirrors = []
    for (method, path), mirror in by_address.items():
        original = by_address.get((method, path.removeprefix("/openai")))
        if path.startswith("/openai/") and original is not None and original.dialect is not None:
            mirrors.append(path)
            assert msgspec.structs.replace(mirror, path=original.path) == original
            shown, other = (paths[one][method.lower()] for one in (path, original.path))
            assert {**shown, "operationId": ""} == {**other, "operationId": ""}
    assert len(mirrors) == 8


def test_only_operations_without_user_data_are_public() -> None:
    """These need no credential and return no user's data. `TURNWIRE_METRICS` may still restrict `/metrics`."""
    assert {operation.path for operation in OPERATIONS if operation.is_public} == {
        *("/v1", "/health", "/api/health", "/ready", "/metrics")
    }
