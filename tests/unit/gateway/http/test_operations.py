"""Tests of the consistency of the table of operations."""

from __future__ import annotations

import re

import pytest

from gateway.http.operation import Operation
from gateway.http.operations import OPERATIONS


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda found: f"{found.method} {found.path}")
def test_an_operations_fields_are_those_of_its_request(operation: Operation) -> None:
    """Each field of path, query and body is in one place only."""
    in_path = set(re.findall(r"\{(\w+)\}", operation.path))
    assert not in_path & set(operation.fields)
    known = operation.request.__struct_encode_fields__ if operation.request else ()
    assert in_path | set(operation.fields) <= set(known)
    assert "id" not in operation.fields


def test_path_and_method_of_an_operation_are_unique() -> None:
    """No operation hides another."""
    assert len({(operation.method, operation.path) for operation in OPERATIONS}) == len(OPERATIONS)


def test_public_operations_have_no_user_data() -> None:
    """No user's data is sent without a credential. A setting determines access to the metrics."""
    assert {operation.path for operation in OPERATIONS if operation.is_public} == {
        *("/v1", "/health", "/ready", "/metrics")
    }
