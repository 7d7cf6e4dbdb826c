"""WebSocket close codes: their meaning in words, and whether to reconnect."""

from __future__ import annotations

from typing import Final

UNAUTHENTICATED: Final = 4401

REASONS: Final = {
    1011: "The gateway got no answer to its pings, or has a defect",
    4400: "The gateway refuses this client's frames. Update the turnwire package",
    4401: "The credential is invalid, has expired or was revoked. Sign in again, or pass a function as token",
    4403: "An operator has closed this connection. Ask the operator before you connect again",
    4408: "No credential was sent in time. Pass token or ticket to connect",
    4409: "The user has too many open connections. Close some",
    4501: "The connection was read too slowly",
    4502: "The connection has reached its maximum lifetime",
    4503: "The gateway is restarting",
}


def reason_of(code: int | None, detail: str) -> str:
    """Return the reason for a loss as text, without a period."""
    return REASONS.get(code or 0) or detail.rstrip(".") or "The connection was lost"


def is_final(code: int | None) -> bool:
    """Return whether a reconnect would be refused again: 44xx."""
    return code is not None and 4400 <= code < 4500
