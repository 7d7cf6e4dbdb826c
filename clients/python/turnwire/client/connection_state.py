"""The state of a connection, and what carries it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Transport: TypeAlias = Literal["socket", "http"]


class ConnectionState(msgspec.Struct, frozen=True):
    """Whether a connection is up. `reason` says why it isn't, and `retry_in_s` when it is tried again."""

    state: Literal["connecting", "live", "waiting", "closed"]
    reason: str = ""
    retry_in_s: float | None = None
