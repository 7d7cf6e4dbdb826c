"""The decoder of an Anthropic Messages stream into deltas. It decodes only the used fields and does no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from providers.base import Finished, Usage, UsageReported
from providers.delta_buffer import DeltaBuffer
from providers.errors.failures import Failures
from providers.errors.finish_reasons import finish_of
from providers.http.stream import reread
from providers.openai.token_counts import is_count


class _Citation(Struct, gc=False):
    url: str | None = None
    title: str | None = None
    document_title: str | None = None
    cited_text: str | None = None


class _Block(Struct, gc=False):
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

_decode = msgspec.json.Decoder(_Event, float_hook=float).decode


class MessagesDecoder:
    """The decoder of one stream. See `stream.Decoder`. The JSON gives an event's type, because names may be missing."""

    def __init__(self, failures: Failures) -> None:
        self.parts = DeltaBuffer()
        self.finishing = False
        self.done = False
        self._failures = failures
        self._usage: dict[str, int] = {}
        self._stop: str | None = None
        self._explanation: str | None = None
        self._inputs: dict[int, str] = {}
        """Map from a block's index to the initial arguments of its tool call, until others arrive."""

    def event(self, name: str | None, data: bytes) -> bool:
        """Process one event. See `stream.Decoder`. A ping isn't progress of the model."""
        try:
            events = [_decode(data)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            events = reread(data, _Event)
        progress = False
        for event in events:
            progress = self._taken(event, name) or progress
        return progress

    def whole(self, body: dict[str, Any]) -> bool:
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
            self.event(None, json.dumps(event).encode())
        return True

    def end(self) -> None:
        """Process the end of the stream. See `stream.Decoder`.

        Raise `ProviderError` if the answer is incomplete (without `message_stop`) or its stop reason is a failure.
        """
        if self.done:
            for index, arguments in self._inputs.items():
                self.parts.append(self.parts.find_part(index) or 0, arguments)
            self.parts.close()
        if self._explanation:
            self.parts.append_text("refusal", self._explanation)
        self._report()
        if not self.done or self._stop is None:
            raise self._failures.incomplete()
        finish = finish_of(self._stop)
        if finish is None:
            raise self._failures.of_finish(self._stop)
        self.parts.append_delta(Finished(finish))

    def _taken(self, event: _Event, name: str | None) -> bool:
        take = _TAKE.get(event.type or name or "")
        if take is not None:
            take(self, event)
        elif event.error is not None:
            self._failed(event)
        return take is not MessagesDecoder._pass

    def _pass(self, event: _Event) -> None:
        """Ignore a ping."""

    def _failed(self, event: _Event) -> None:
        self._report()
        raise self._failures.of_event({"error": event.error})

    def _message_start(self, event: _Event) -> None:
        self._count(event.message.usage if event.message else None)
        self._report()

    def _start(self, event: _Event) -> None:
        """Start a block. Text and thinking start their part only with their first text, because some stay empty."""
        index, block = event.index, event.content_block or _Block()
        # A second message in one answer, for example after a fallback, numbers its blocks from 0 again.
        self.parts.forget_key(index)
        if block.type == "tool_use":
            self.parts.open_tool_call(index, block.id or f"call_{self.parts.opened}", block.name or "")
            self._inputs[index] = json.dumps(block.input or {})
        elif block.type == "redacted_thinking":
            self.parts.append_signature(self.parts.open_part("reasoning", redacted=True), block.data or "")
        elif block.type == "text":
            self.parts.append_text("text", block.text or "")
            for cited in block.citations or ():
                self._cite(cited)
        elif block.type == "thinking" and (block.thinking or block.signature):
            part = self.parts.open_part("reasoning", key=index)
            self.parts.append(part, block.thinking or "")
            self.parts.append_signature(part, block.signature or "")

    def _delta(self, event: _Event) -> None:
        index, delta = event.index, event.delta or _Delta()
        if delta.type == "text_delta":
            self.parts.append_text("text", delta.text or "")
        elif delta.type == "thinking_delta":
            if delta.thinking:
                self.parts.append(self._thought(index), delta.thinking)
        elif delta.type == "input_json_delta":
            part = self.parts.find_part(index)
            if part is not None and delta.partial_json:
                self._inputs.pop(index, None)
                self.parts.append(part, delta.partial_json)
        elif delta.type == "signature_delta":
            if delta.signature:
                self.parts.append_signature(self._thought(index), delta.signature)
        elif delta.type == "citations_delta" and delta.citation is not None:
            self._cite(delta.citation)

    def _cite(self, cited: _Citation) -> None:
        self.parts.add_citation(url=cited.url, title=cited.title or cited.document_title, text=cited.cited_text)

    def _thought(self, index: int) -> int:
        part = self.parts.find_part(index)
        return part if part is not None else self.parts.open_part("reasoning", key=index)

    def _block_stopped(self, event: _Event) -> None:
        if (part := self.parts.find_part(event.index)) is not None:
            self.parts.append(part, self._inputs.pop(event.index, ""))

    def _stopping(self, event: _Event) -> None:
        self._count(event.usage)
        delta = event.delta
        if delta is not None and delta.stop_reason:
            self._stop = delta.stop_reason
            self._explanation = delta.stop_details.explanation if delta.stop_details else None

    def _stopped(self, event: _Event) -> None:
        self.finishing = self.done = True

    def _count(self, usage: dict[str, Any] | None) -> None:
        """Merge `usage` into the counts. They are cumulative, and a later report may omit counts of an earlier one."""
        counts = dict(usage or {})
        details = counts.get("output_tokens_details")
        if isinstance(details, dict):
            counts["thinking_tokens"] = details.get("thinking_tokens")
        self._usage |= {name: int(count) for name in _COUNTS if is_count(count := counts.get(name))}

    def _report(self) -> None:
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


_TAKE: Final[dict[str, Callable[[MessagesDecoder, _Event], None]]] = {
    "ping": MessagesDecoder._pass,
    "message_start": MessagesDecoder._message_start,
    "content_block_start": MessagesDecoder._start,
    "content_block_delta": MessagesDecoder._delta,
    "content_block_stop": MessagesDecoder._block_stopped,
    "message_delta": MessagesDecoder._stopping,
    "message_stop": MessagesDecoder._stopped,
    "error": MessagesDecoder._failed,
}
