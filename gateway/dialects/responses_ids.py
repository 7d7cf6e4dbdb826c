"""The ids of responses and of their conversations. The id of a response tells that of its conversation."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

from gateway.dialects.responses_object import TURN_PREFIX

CHAIN_PREFIX: Final = "conv_"
CHAIN_CHARS: Final = 24
"""The length of the part that the id of a conversation shares with the ids of its responses."""

_RESPONSE_ID = re.compile(rf"{TURN_PREFIX}([\w-]{{{CHAIN_CHARS}}})_[\w-]{{1,30}}", re.ASCII)


def new_response_id(previous: str | None = None) -> str:
    """Return a new id. It shares a part with `previous`, because both are in the same conversation."""
    match = _RESPONSE_ID.fullmatch(previous or "")
    chain = secrets.token_urlsafe(CHAIN_CHARS)[:CHAIN_CHARS] if match is None else match.group(1)
    return f"{TURN_PREFIX}{chain}_{secrets.token_urlsafe(12)}"


def is_response_id(name: str) -> bool:
    """Return whether `name` is an id that was made here for a response."""
    return _RESPONSE_ID.fullmatch(name) is not None


def conversation_of(turn: str) -> str:
    """Return the id of the conversation that begins with the response `turn`."""
    match = _RESPONSE_ID.fullmatch(turn)
    chain = hashlib.sha256(turn.encode()).hexdigest()[:CHAIN_CHARS] if match is None else match.group(1)
    return CHAIN_PREFIX + chain
