"""MiniMax's `base_resp`: the status of an answer in its own codes. Data and two look-ups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_TYPES: Final = {
    "1000": "server_error",
    "1001": "timeout_error",
    "1002": "rate_limit_error",
    "1004": "authentication_error",
    "1008": "billing_error",
    "1013": "server_error",
    "1024": "server_error",
    "1026": "content_filter",
    "1027": "content_filter",
    "1033": "server_error",
    "1039": "rate_limit_error",
    "1041": "rate_limit_error",
    "1042": "invalid_request_error",
    "1043": "invalid_request_error",
    "2013": "invalid_request_error",
    "2045": "rate_limit_error",
    "2049": "authentication_error",
    "2056": "insufficient_quota",
    "2061": "permission_error",
}
"""Map from a code to the type that the error table knows."""


def is_failed_status(base_resp: object) -> bool:
    """Return whether the value of `base_resp` reports a failure."""
    return isinstance(base_resp, Mapping) and base_resp.get("status_code") not in (None, 0, "0", "")


def read_status(base_resp: Mapping[str, object]) -> dict[str, object]:
    """Return a failed `base_resp` in the fields of an error: its type, code and message."""
    code = str(base_resp.get("status_code"))
    return {"type": _TYPES.get(code, ""), "code": code, "message": base_resp.get("status_msg")}
