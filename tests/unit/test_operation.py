"""One row of the API."""

from __future__ import annotations

import pytest

from gateway.api.operation import Answer, Call, Operation


async def serve(call: Call) -> None:
    """Nothing."""


@pytest.mark.parametrize(("method", "has_body"), [("GET", False), ("DELETE", False), ("POST", True), ("PATCH", True)])
def test_a_method_says_where_fields_stand(method: str, has_body: bool) -> None:
    """In the body of what makes or changes something, else in the query."""
    row = Operation(method=method, path="/", summary="", serve=serve, answers=(Answer(description=""),))
    assert row.has_body is has_body
