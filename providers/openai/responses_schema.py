"""The output items of OpenAI's Responses API, as msgspec decodes them: the fields that hosts use. Without I/O."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct

from providers.base import PartKind
from providers.media import MediaPiece
from providers.thoughts import thought_text

ItemKey = int | str
"""The identity of an item: its index in the output, or its id if the provider gives no index."""
Source = Literal["content", "summary"]
"""The field of an item that a piece belongs to."""
Arguments = str | dict[str, Any] | list[Any] | None

KINDS: Final[dict[str, PartKind]] = {
    "output_text": "text",
    "text": "text",
    "refusal": "refusal",
    "output_audio": "text",
    "audio": "text",
    "reasoning_text": "reasoning",
    "reasoning": "reasoning",
    "thinking": "reasoning",
    "summary_text": "reasoning",
}


class Annotation(Struct, gc=False):
    """A citation of a page, or of a file."""

    url: str | None = None
    title: str | None = None
    filename: str | None = None

    @property
    def page(self) -> tuple[str | None, str | None]:
        """The address and the title of what is cited."""
        return self.url, self.title or self.filename


class Piece(MediaPiece, gc=False):
    """A piece of an item's content or summary."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[Annotation] | None = None
    data: Any = None
    thinking: Any = None

    @property
    def words(self) -> str:
        """The text of the piece: its own, its refusal's, or the transcript of its sound."""
        transcript = self.transcript if isinstance(self.transcript, str) else ""
        return self.text or self.refusal or transcript or thought_text(self.thinking)


class Item(Struct, gc=False):
    """An item of the output: a message, reasoning, or a tool call."""

    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Arguments = None
    input: str | None = None
    phase: str | None = None
    content: list[Piece] | str | None = None
    summary: Any = None
    encrypted_content: str | None = None
    result: Any = None
    output_format: str | None = None

    @property
    def pieces(self) -> list[Piece]:
        """The content, which some hosts give as one text."""
        if isinstance(self.content, str):
            return [Piece(type="reasoning_text" if self.type == "reasoning" else "output_text", text=self.content)]
        return self.content or []
