"""The stream of Anthropic's Messages API: our events as its events. Nothing but the text is encoded for each token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.dialects.anthropic_errors import error_body
from gateway.dialects.anthropic_messages_object import (
    NO_NAMES,
    NO_USAGE,
    Object,
    arguments_of,
    citation_object,
    image_block,
    message_object,
    stop_fields,
    tool_block,
    usage_object,
)
from gateway.dialects.base import encode_sse
from gateway.dialects.resets import Diverged
from gateway.dialects.stream import StreamTranslator
from gateway.protocol.errors import ErrorBody
from gateway.protocol.events import (
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnPart,
    TurnStarted,
    TurnStatus,
)
from providers.base import (
    Usage,
)

DELTAS: Final = {
    "text": b'"text_delta","text":',
    "refusal": b'"text_delta","text":',
    "reasoning": b'"thinking_delta","thinking":',
    "tool_call": b'"input_json_delta","partial_json":',
}
"""The type and the field of a delta, for each kind of part that is streamed as text."""
PING: Final = encode_sse({"type": "ping"}, "ping")
CHECKED_CHARS_MAX: Final = 256 * 1024
"""Up to this length, the arguments of a tool call are checked for whether they are complete."""

_encode_text = msgspec.json.Encoder().encode


class _Block(Struct, gc=False):
    """The content block of a part. `head` is the beginning of its deltas: empty before the block starts and after it stops.

    `index` is -1 before it starts. `is_left_out`: the part isn't shown. `is_checked`: when a later block started,
    it was checked whether the arguments of this tool call were complete.
    """

    part: int
    begun: TurnPart
    index: int = -1
    head: bytes = b""
    is_left_out: bool = False
    is_checked: bool = False
    signature: list[str] = []  # msgspec copies it


class MessagesStream(StreamTranslator):
    """The events of one message. With `one_call`, tool calls after the first are left out. `tool_names`: see `ToolNames`.

    Blocks follow one another, and a block of text starts with its first text. Only tool calls that arrive side by side
    are open at the same time.
    """

    sends_signatures = True

    def __init__(self, *, one_call: bool = False, tool_names: Mapping[str, str] = NO_NAMES) -> None:
        super().__init__()
        self._one_call = one_call
        self._tool_names = tool_names
        self._turn = self._model = ""
        self._has_begun = False
        self._blocks: list[_Block] = []
        """The newest block of each part."""
        self._open: list[_Block] = []
        self._count = 0
        self._citations: list[Object] = []
        """The citations that came when no block of text was open."""

    def started(self, event: TurnStarted) -> bytes:
        """See `StreamTranslator`. After a reset, the event may come again."""
        self._turn = event.turn
        if not self._has_begun:
            self._model = event.model
        return b""

    def status(self, event: TurnStatus) -> bytes:
        """See `StreamTranslator`."""
        if event.status == "fallback" and event.model is not None and not self._has_begun:
            self._model = event.model
        return b""

    def _begin(self) -> bytes:
        """Return the first event, if it wasn't sent. The usage isn't known until the end."""
        if self._has_begun:
            return b""
        self._has_begun = True
        message = message_object(self._turn, self._model, content=[], usage=usage_object(NO_USAGE))
        return encode_sse({"type": "message_start", "message": message}, "message_start")

    def part(self, event: TurnPart) -> bytes:
        """See `StreamTranslator`."""
        block = _Block(len(self._blocks), event)
        self._blocks.append(block)
        if event.kind == "citation":
            return self._begin() + self._cite(event)
        if event.kind == "tool_call":
            block.is_left_out = self._one_call and any(
                other.begun.kind == "tool_call" for other in self._blocks[: block.part]
            )
            return self._begin() if block.is_left_out else self._begin() + self._start(block)
        if event.kind == "image" and event.url:
            return self._begin() + self._start(block) + self._stop(block)
        block.is_left_out = event.kind not in DELTAS
        return self._begin()

    def text(self, part: int, text: str) -> bytes:
        """See `StreamTranslator`."""
        block = self._blocks[part]
        if block.head:
            return block.head + _encode_text(text) + b"}}\n\n"
        return self._text_outside(block, text)

    def _text_outside(self, block: _Block, text: str) -> bytes:
        """Return the frames for the text of a block that isn't open: it starts now, or has stopped already."""
        if block.is_left_out or block.begun.redacted or block.begun.kind not in DELTAS:
            return b""
        if block.index >= 0 and block.begun.kind == "tool_call":
            if text.strip():
                raise Diverged  # the call was complete
            return b""
        if block.index >= 0:
            block = self._blocks[block.part] = _Block(block.part, block.begun)
        return self._start(block) + block.head + _encode_text(text) + b"}}\n\n"

    def signature(self, part: int, signature: str) -> bytes:
        """See `StreamTranslator`. Clients expect a signature in one event, so it is held until its block stops."""
        block = self._blocks[part]
        if block.begun.kind != "reasoning":
            return b""
        block.signature.append(signature)
        if block.begun.redacted:
            return b"" if block in self._open else self._hold(block)
        if block.index < 0:
            return self._start(block)
        return b"" if block.head else self._signature_delta(block)

    def _hold(self, block: _Block) -> bytes:
        """Return the frames that stop the blocks before a redacted one, which itself is sent once its data is complete."""
        frames = self._stop_others()
        self._open.append(block)
        return frames

    def _start(self, block: _Block) -> bytes:
        """Return the frames that start a block, after those that stop the blocks before it."""
        frames = self._stop_others()
        block.index = self._count
        self._count += 1
        self._open.append(block)
        kind = block.begun.kind
        if kind in DELTAS:
            block.head = (
                b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":%b'
                % (
                    block.index,
                    DELTAS[kind],
                )
            )
        frames += _event("content_block_start", index=block.index, content_block=self._begun_block(block.begun))
        if kind == "text" and self._citations:
            cited, self._citations = self._citations, []
            frames += b"".join([_citation_delta(block.index, citation) for citation in cited])
        return frames

    def _begun_block(self, begun: TurnPart) -> Object:
        """Return the content block with which a part begins."""
        if begun.kind == "tool_call":
            name = begun.name or ""
            return tool_block(begun.call or "", self._tool_names.get(name, name), {})
        if begun.kind == "reasoning":
            return {"type": "thinking", "thinking": "", "signature": ""}
        if begun.kind == "image":
            return image_block(begun.url or "")
        return {"type": "text", "text": ""}

    def _stop_others(self) -> bytes:
        """Return the frames that stop the open blocks, except tool calls whose arguments aren't complete."""
        return b"".join([self._stop(block) for block in list(self._open) if self._may_stop(block)])

    def _may_stop(self, block: _Block) -> bool:
        if block.begun.kind != "tool_call":
            return True
        if block.is_checked:
            return False  # its arguments are decoded only once
        block.is_checked = True
        return is_complete(self._sent.texts[block.part])

    def _stop(self, block: _Block) -> bytes:
        self._open.remove(block)
        block.head = frames = b""
        if block.begun.redacted:
            block.index = self._count
            self._count += 1
            content = {"type": "redacted_thinking", "data": "".join(block.signature)}
            frames = _event("content_block_start", index=block.index, content_block=content)
        elif block.signature:
            frames = self._signature_delta(block)
        return frames + _event("content_block_stop", index=block.index)

    def _signature_delta(self, block: _Block) -> bytes:
        delta = {"type": "signature_delta", "signature": "".join(block.signature)}
        return _event("content_block_delta", index=block.index, delta=delta)

    def _cite(self, event: TurnPart) -> bytes:
        if event.url is None:
            return b""
        citation = citation_object(event.url, event.title, event.text)
        block = next((block for block in self._open if block.begun.kind == "text"), None)
        if block is None:
            self._citations.append(citation)
            return b""
        return _citation_delta(block.index, citation)

    def completed(self, event: TurnCompleted) -> bytes:
        """See `StreamTranslator`."""
        sequence = event.stop_sequence if isinstance(event.stop_sequence, str) else None
        return self._end(event.usage, stop_fields(event.finish_reason, None, sequence))

    def cancelled(self, event: TurnCancelled) -> bytes:
        """See `StreamTranslator`. There is no stop reason for it."""
        return self._end(event.usage, stop_fields(None, event.by))

    def _end(self, usage: Usage | None, stopped: Object) -> bytes:
        frames = self._begin() + b"".join([self._stop(block) for block in list(self._open)])
        frames += _event("message_delta", delta=stopped, usage=usage_object(usage or NO_USAGE))
        return frames + _event("message_stop")

    def failed(self, error: ErrorBody, event: TurnFailed | None) -> bytes:
        """See `StreamTranslator`."""
        return encode_sse(error_body(error), "error")

    def heartbeat(self) -> bytes:
        """See `StreamTranslator`."""
        return self._begin() + PING if self._turn else b""


def _event(kind: str, **fields: Any) -> bytes:
    return encode_sse({"type": kind, **fields}, kind)


def _citation_delta(index: int, citation: Object) -> bytes:
    return _event("content_block_delta", index=index, delta={"type": "citations_delta", "citation": citation})


def is_complete(pieces: list[str]) -> bool:
    """Return whether the arguments of a tool call are a whole JSON object."""
    text = "".join(pieces) if sum(map(len, pieces)) <= CHECKED_CHARS_MAX else ""
    return text.rstrip().endswith("}") and arguments_of(text) is not None
