"""The events of Anthropic's Messages API, as msgspec decodes them: the fields that hosts use. Without I/O."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from providers.media import MediaPiece


class Citation(Struct, gc=False):
    url: str | None = None
    title: str | None = None
    document_title: str | None = None
    cited_text: str | None = None


class Block(MediaPiece, gc=False):
    type: str = ""
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: Any = None
    reasoning: Any = None
    signature: str | None = None
    data: str | None = None
    input: str | dict[str, Any] | list[Any] | None = None
    citations: list[Citation] | None = None


class StopDetails(Struct, gc=False):
    explanation: str | None = None


class Delta(Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: Any = None
    reasoning: Any = None
    source: Any = None
    data: Any = None
    partial_json: str | dict[str, Any] | list[Any] | None = None
    signature: str | None = None
    citation: Citation | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None


class Message(Struct, gc=False):
    id: str | None = None
    content: list[Block] | str | None = None
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None


class Event(Struct, gc=False):
    type: str = ""
    index: int = 0
    message: Message | None = None
    content_block: Block | None = None
    delta: Delta | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    stop_reason: str | None = None
    """The stop reason, where a host puts it in the event itself."""
    base_resp: Any = None
    """MiniMax's status of the answer."""


event_decoder = msgspec.json.Decoder(Event, float_hook=float)


def has_content(delta: Delta) -> bool:
    """Return whether a delta shows progress by something other than text."""
    return bool(
        delta.thinking
        or delta.partial_json
        or delta.signature
        or delta.citation
        or delta.reasoning
        or delta.source
        or delta.data
    )
