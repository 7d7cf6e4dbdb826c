"""The errors of a store."""

from __future__ import annotations

from typing import Literal


class StoreError(Exception):
    """The store can't do what was asked of it now. The error's text is meant for a person."""


class PartFailed(StoreError):
    """A part of the store fails, for example one master of a cluster, and the others work."""

    def __init__(self) -> None:
        super().__init__("A part of the store fails. Try again in a moment.")


class Damaged(StoreError):
    """The store can't read what it has of one user, because something else has written there. It serves other users."""

    def __init__(self) -> None:
        super().__init__(
            "The store refuses the call: its data of this user is damaged. An operator has to repair or erase it."
        )


CLOSED = "The store is closed. Start the gateway again."


class NotFound(StoreError):
    """The user has nothing of that kind with that id. `field` is the name of the request's field."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} not found")
        self.field = field


class Conflict(StoreError):
    """The turn id was used for another request in the last 24 h."""

    def __init__(self) -> None:
        super().__init__("this turn id was already used for a different request")


class Busy(StoreError):
    """The conversation has a running turn, and `on_busy` of the new one is "reject"."""


LimitName = Literal[
    "starts",
    "live",
    "live_bytes",
    "conversations",
    "stored_bytes",
    "tokens_per_day",
    "cost_per_day",
    "conversation_tokens",
    "pinned",
]


class Limited(StoreError):
    """The user has reached `limit`. `retry_after_ms`: the time until that is over, or None if it isn't known."""

    def __init__(self, limit: LimitName, retry_after_ms: int | None = None) -> None:
        super().__init__(f"limit {limit} reached")
        self.limit = limit
        self.retry_after_ms = retry_after_ms


class LogGap(StoreError):
    """The events don't continue the log. `end`: the log's last seq."""

    def __init__(self, end: int) -> None:
        super().__init__(f"the log ends at {end}")
        self.end = end


class Fenced(StoreError):
    """The turn is in a newer epoch, so the caller is no longer its owner."""
