"""The data of an image in an answer: events of the log whose data isn't sent to clients.

A client gets the address of the data with `turn.part`. The events have a `seq` like any other, so that the log, its
mirrors on other instances and a takeover handle the data as they handle text.
"""

from __future__ import annotations

from gateway.protocol.events import TurnDelta

DATA_PIECE_CHARS = 60_000
"""The length of a piece of base64 data in the log, a multiple of 4."""


class PartData(TurnDelta, frozen=True, gc=False, tag_field="type", tag="part.data", omit_defaults=True):
    """A piece of the base64 data of part number `part`."""

    data: str = ""


def data_chars(size: int) -> int:
    """Return the length of `size` bytes as base64."""
    return (size + 2) // 3 * 4
