"""The ids of turns and conversations that clients of the dialects name in their own way. No I/O."""

from __future__ import annotations

import hashlib
import re
import secrets

from gateway.protocol.requests import OWN_ID_PATTERN

_OWN_ID = re.compile(OWN_ID_PATTERN)


def new_turn_id(prefix: str) -> str:
    """Return an id for a turn that begins with the dialect's prefix, such as `chatcmpl-`."""
    return prefix + secrets.token_urlsafe(18)


def own_id(prefix: str, *names: str) -> str:
    """Return the id of a turn or a conversation that a client names: the name itself if it is valid as an id, else a digest.

    Several names, such as a chat's id and a message's id, are joined.
    """
    name = names[0] if len(names) == 1 else ""
    if _OWN_ID.fullmatch(name) and name not in {".", ".."}:
        return name
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()
    return prefix + digest[:40]


def conversation_id(name: str) -> str:
    """Return the id of the conversation that a client names, such as a chat or a thread: see `own_id`."""
    return own_id("c_", name)
