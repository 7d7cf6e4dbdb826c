"""The headers that requests of all dialects may have: the id of the turn, and what a disconnect does. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from gateway.dialects.ids import new_turn_id, own_id
from gateway.protocol.errors import ApiError

Headers = Mapping[str, str]
"""The headers of a request, looked up by lower-case names."""
ON_DISCONNECT_HEADER = "turnwire-on-disconnect"
TURN_HEADERS = ("turnwire-turn", "idempotency-key")
"""The headers in which a client may choose the id of the turn, so that it can repeat the request (law 6)."""


def turn_id(headers: Headers, prefix: str) -> str:
    """Return the id of the turn that a request starts: the client's, or a new one."""
    sent = next((value for name in TURN_HEADERS if (value := headers.get(name))), None)
    return new_turn_id(prefix) if sent is None else own_id(prefix, sent)


def on_disconnect(headers: Headers, default: Literal["continue", "cancel"]) -> Literal["continue", "cancel"]:
    """Return what happens to the turn when its client disconnects. Raises `ApiError`."""
    sent = headers.get(ON_DISCONNECT_HEADER, default)
    if sent == "continue":
        return "continue"
    if sent == "cancel":
        return "cancel"
    raise ApiError(
        "invalid_request", "Turnwire-On-Disconnect must be continue or cancel.", path="Turnwire-On-Disconnect"
    )
