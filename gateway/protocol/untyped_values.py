"""Check the values of a request that have no schema, and floats, by the rules of a frame."""

from __future__ import annotations

import math
from typing import Any

from gateway.protocol.errors import ApiError
from gateway.protocol.requests import DEPTH_MAX, UNTYPED_MESSAGE_FIELDS, AnyRequest, Ping, TurnStart

# The range of MessagePack's integers. JSON alone could carry larger ones.
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**64 - 1


def check_untyped_values(request: AnyRequest) -> None:
    """Check values without a schema, and floats, by the rules that the typed decoder can't express.

    Raise `ApiError` if a value is wrong, and `RecursionError` if it is nested too deeply.
    """
    metadata = getattr(request, "metadata", None)
    if metadata is not None:
        check_value(metadata, "metadata", 2)
    if isinstance(request, Ping):
        check_value(request.t, "t", 2)
    elif isinstance(request, TurnStart):
        params = request.params
        for name in ("temperature", "top_p"):
            check_value(getattr(params, name), f"params.{name}", 3)
        check_value(params.response_format, "params.response_format", 3)
        check_value(params.demo, "params.demo", 3)
        for n, tool in enumerate(request.tools or ()):
            check_value(tool.parameters, f"tools[{n}].parameters", 4)
        for n, message in enumerate(request.messages or ()):
            for name in UNTYPED_MESSAGE_FIELDS:
                check_value(getattr(message, name), f"messages[{n}].{name}", 4)


def check_value(value: Any, path: str, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise RecursionError
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ApiError("invalid_frame", "Map keys must be strings. Change the key.", path=path)
            check_value(inner, path, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            check_value(inner, path, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ApiError("invalid_frame", "Numbers must be finite. Change the number.", path=path)
    elif isinstance(value, int):
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise ApiError("invalid_frame", "Integers must fit in 64 bits. Send a larger number as text.", path=path)
    elif value is not None and not isinstance(value, str):
        raise ApiError(
            "invalid_frame", "Binary and extension types aren't supported. Send the data as base64 text.", path=path
        )
