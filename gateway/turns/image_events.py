"""The images of one answer in its log: the address and the size of each, and its data in pieces."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from gateway.protocol.events import TurnDelta
from gateway.protocol.part_data import DATA_PIECE_CHARS, PartData, data_chars
from gateway.protocol.views import part_url
from gateway.turns.live_turn import LiveTurn
from providers.base import PartStarted

TOO_LARGE = "[The model sent an image that is too large for this answer.]"
"""The text in place of an image that would exceed the limit of the answer's size."""


class ImageEvents:
    """The images of the answer of `live_turn`, which has at most `output_bytes_max` bytes with their data."""

    def __init__(self, live_turn: LiveTurn, output_bytes_max: int) -> None:
        self.batch_chars = 0
        """The length of the data of all images that start in the current batch."""
        self.left_out: set[int] = set()
        """The numbers of the images that are too large. Their data is replaced by a text."""
        self._live_turn = live_turn
        self._output_bytes_max = output_bytes_max

    def open(self, image: PartStarted) -> PartStarted:
        """Return the image with its address, or a text part in place of an image that is too large."""
        live_turn = self._live_turn
        chars = data_chars(image.size or 0)
        if live_turn.output_bytes + self.batch_chars + chars > self._output_bytes_max:
            self.left_out.add(image.part)
            return PartStarted(image.part, "text")
        self.batch_chars += chars
        stateless = live_turn.turn if live_turn.conversation is None else None
        return structs.replace(image, url=part_url(live_turn.message, image.part, stateless))

    def data_events(self, seq: int, part: int, data: str) -> Sequence[TurnDelta]:
        """Return `data` of part number `part` as events after `seq`: in pieces, or as a text if it is left out."""
        turn = self._live_turn.turn
        if part in self.left_out:
            return [TurnDelta(turn, seq + 1, part, TOO_LARGE)]
        starts = range(0, len(data), DATA_PIECE_CHARS)
        pieces = [data[start : start + DATA_PIECE_CHARS] for start in starts]
        return [PartData(turn, seq + n, part, data=piece) for n, piece in enumerate(pieces, 1)]

    def forget(self) -> None:
        """Forget all images, because the answer begins again."""
        self.left_out.clear()
