"""The table of the HTTP API holds together."""

from __future__ import annotations

import re

import pytest

from gateway.http.operation import Operation
from gateway.http.operations import OPERATIONS


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda found: f"{found.method} {found.path}")
def test_an_operation_s_fields_are_its_request_s(operation: Operation) -> None:
    """Those in path, query and body, each in one place."""
    in_path = set(re.findall(r"\{(\w+)\}", operation.path))
    assert not in_path & set(operation.fields)
    known = operation.request.__struct_encode_fields__ if operation.request else ()
    assert in_path | set(operation.fields) <= set(known)
    assert "id" not in operation.fields


def test_an_address_and_method_are_one_operation() -> None:
    """None hides another."""
    assert len({(operation.method, operation.path) for operation in OPERATIONS}) == len(OPERATIONS)


def test_what_is_public_is_no_one_s() -> None:
    """Nothing that belongs to a user is answered without a credential. For metrics a setting says who may read them."""
    assert {operation.path for operation in OPERATIONS if operation.is_public} == {
        *("/v1", "/health", "/ready", "/metrics")
    }
