"""Decode a stream of Anthropic's Messages API into deltas. Unused fields are skipped. This module does no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from providers.base import Finished, Usage, UsageReported
from providers.delta_buffer import DeltaBuffer
from providers.errors.failures import Failures
from providers.errors.finish_reasons import map_finish_reason
from providers.http.lenient_json import decode_events
from providers.media import Media, MediaPiece
from providers.token_counts import is_count


class _Citation(Struct, gc=False):
    url: str | None = None
    title: str | None = None
    document_title: str | None = None
    cited_text: str | None = None


class _Block(MediaPiece, gc=False):
    type: str = ""
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    input: dict[str, Any] | None = None
    citations: list[_Citation] | None = None


class _StopDetails(Struct, gc=False):
    explanation: str | None = None


class _Delta(Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    signature: str | None = None
    citation: _Citation | None = None
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None


class _Message(Struct, gc=False):
    usage: dict[str, Any] | None = None
    content: list[_Block] | None = None


class _Event(Struct, gc=False):
    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "thinking_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)

_decoder = msgspec.json.Decoder(_Event, float_hook=float)


class MessagesDecoder:
    """The decoder of one stream. See `stream.Decoder`. An event's type is in its JSON, in its name, or in both."""

    def __init__(self, failures: Failures) -> None:
        self.parts = DeltaBuffer()
        self.finishing = False
        self.done = False
        self._failures = failures
        self._usage: dict[str, int] = {}
        self._stop_reason: str | None = None
        self._explanation: str | None = None
        self._initial_arguments: dict[int, str] = {}
        """Map from a block's index to the initial arguments of its tool call, used only if no others arrive."""
        self._media = Media(self.parts)
        self._held: list[_Block] = []
        """The blocks that came with `message_start`. They are used unless the stream begins them again."""

    def decode_event(self, name: str | None, data: bytes) -> bool:
        """Process one event. See `stream.Decoder`. A ping isn't progress of the model."""
        progress = False
        for event in decode_events(data, _decoder):
            progress = self._process(event, name) or progress
        return progress

    def decode_document(self, body: dict[str, Any]) -> bool:
        """Process a message that wasn't streamed. Return False if `body` isn't one. See `stream.Decoder`."""
        blocks = body.get("content")
        if body.get("type") != "message" or not isinstance(blocks, list):
            return False
        stop = {"type": "message_delta", "delta": {"stop_reason": body.get("stop_reason")}, "usage": body.get("usage")}
        events: list[dict[str, Any]] = []
        for index, block in enumerate(blocks):
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events.append({"type": "content_block_stop", "index": index})
        for event in (*events, stop, {"type": "message_stop"}):
            self.decode_event(None, json.dumps(event).encode())
        return True

    def end(self) -> None:
        """Process the end of the stream. See `stream.Decoder`.

        Raise `ProviderError` if the answer has no `message_stop` or no stop reason, or if its stop reason is a failure.
        """
        self._use_held()
        if self.done:
            self._media.close()
            for index, arguments in self._initial_arguments.items():
                self.parts.append(self.parts.find_part(index) or 0, arguments)
            self.parts.close()
        if self._explanation:
            self.parts.append_text("refusal", self._explanation)
        self._report_usage()
        if not self.done or self._stop_reason is None:
            raise self._failures.incomplete()
        finish = map_finish_reason(self._stop_reason)
        if finish is None:
            raise self._failures.from_finish_reason(self._stop_reason)
        self.parts.append_delta(Finished(finish))

    def _process(self, event: _Event, name: str | None) -> bool:
        handler = _HANDLERS.get(event.type or name or "")
        if handler is not None:
            handler(self, event)
        elif event.error is not None:
            self._failed(event)
        return handler is not MessagesDecoder._ping

    def _ping(self, event: _Event) -> None:
        """Ignore a ping."""

    def _failed(self, event: _Event) -> None:
        self._report_usage()
        raise self._failures.from_event({"error": event.error})

    def _message_start(self, event: _Event) -> None:
        self._merge_usage(event.message.usage if event.message else None)
        self._report_usage()
        if event.message is not None and event.message.content:
            self._use_held()
            self._held = event.message.content

    def _use_held(self) -> None:
        """Add the blocks that came with `message_start`, because no event begins them again."""
        held, self._held = self._held, []
        for index, block in enumerate(held):
            self._start_block(index, block)
            self._block_stop(_Event(index=index))

    def _block_start(self, event: _Event) -> None:
        if self._held:
            if event.index < len(self._held):
                self._held = []
            self._use_held()
        self._start_block(event.index, event.content_block or _Block())

    def _start_block(self, index: int, block: _Block) -> None:
        """Start a block. The part of a text or thinking block starts only with its first content: some blocks stay empty."""
        # A second message in one answer, for example after a fallback, numbers its blocks from 0 again.
        self.parts.remove_key(index)
        if block.type == "tool_use":
            self.parts.open_tool_call(index, block.id or f"call_{self.parts.count}", block.name or "")
            self._initial_arguments[index] = json.dumps(block.input or {})
        elif block.type == "redacted_thinking":
            self.parts.append_signature(self.parts.open_part("reasoning", redacted=True), block.data or "")
        elif block.type == "text":
            self.parts.append_text("text", block.text or "")
            for citation in block.citations or ():
                self._add_citation(citation)
        elif block.type == "thinking" and (block.thinking or block.signature):
            part = self.parts.open_part("reasoning", key=index)
            self.parts.append(part, block.thinking or "")
            self.parts.append_signature(part, block.signature or "")
        elif block.type != "thinking":
            self._add_other(block)

    def _add_other(self, block: _Block) -> None:
        """Add a block of another type: its text, its image, or a sentence in its place."""
        if block.type.startswith("image"):
            self._media.add_image(block.source or block.image_url or block.data)
        elif block.text and not block.type.endswith(("_use", "_result")):
            self.parts.append_text("text", block.text)
        else:
            self._media.add_piece(block.type, block)

    def _block_delta(self, event: _Event) -> None:
        if self._held:
            self._use_held()
        index, delta = event.index, event.delta or _Delta()
        if delta.type == "text_delta":
            self.parts.append_text("text", delta.text or "")
        elif delta.type == "thinking_delta":
            if delta.thinking:
                self.parts.append(self._thinking_part(index), delta.thinking)
        elif delta.type == "input_json_delta":
            part = self.parts.find_part(index)
            if part is not None and delta.partial_json:
                self._initial_arguments.pop(index, None)
                self.parts.append(part, delta.partial_json)
        elif delta.type == "signature_delta":
            if delta.signature:
                self.parts.append_signature(self._thinking_part(index), delta.signature)
        elif delta.type == "citations_delta" and delta.citation is not None:
            self._add_citation(delta.citation)

    def _add_citation(self, citation: _Citation) -> None:
        self.parts.add_citation(
            url=citation.url, title=citation.title or citation.document_title, text=citation.cited_text
        )

    def _thinking_part(self, index: int) -> int:
        part = self.parts.find_part(index)
        return part if part is not None else self.parts.open_part("reasoning", key=index)

    def _block_stop(self, event: _Event) -> None:
        if (part := self.parts.find_part(event.index)) is not None:
            self.parts.append(part, self._initial_arguments.pop(event.index, ""))

    def _message_delta(self, event: _Event) -> None:
        self._merge_usage(event.usage)
        delta = event.delta
        if delta is not None and delta.stop_reason:
            self._stop_reason = delta.stop_reason
            self._explanation = delta.stop_details.explanation if delta.stop_details else None

    def _message_stop(self, event: _Event) -> None:
        self.finishing = self.done = True

    def _merge_usage(self, usage: dict[str, Any] | None) -> None:
        """Merge `usage` into the counts. They are cumulative, and a later report may omit counts of an earlier one."""
        counts = dict(usage or {})
        details = counts.get("output_tokens_details")
        if isinstance(details, dict):
            counts["thinking_tokens"] = details.get("thinking_tokens")
        self._usage |= {name: int(count) for name in _COUNTS if is_count(count := counts.get(name))}

    def _report_usage(self) -> None:
        if not self._usage:
            return
        read = self._usage.get("cache_read_input_tokens")
        written = self._usage.get("cache_creation_input_tokens")
        self.parts.append_delta(
            UsageReported(
                Usage(
                    input_tokens=self._usage.get("input_tokens", 0) + (read or 0) + (written or 0),
                    output_tokens=self._usage.get("output_tokens", 0),
                    reasoning_tokens=self._usage.get("thinking_tokens"),
                    cache_read_tokens=read,
                    cache_write_tokens=written,
                )
            )
        )


_HANDLERS: Final[dict[str, Callable[[MessagesDecoder, _Event], None]]] = {
    "ping": MessagesDecoder._ping,
    "message_start": MessagesDecoder._message_start,
    "content_block_start": MessagesDecoder._block_start,
    "content_block_delta": MessagesDecoder._block_delta,
    "content_block_stop": MessagesDecoder._block_stop,
    "message_delta": MessagesDecoder._message_delta,
    "message_stop": MessagesDecoder._message_stop,
    "error": MessagesDecoder._failed,
}
