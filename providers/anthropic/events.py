"""Decode a stream of Anthropic's Messages API into deltas. Unused fields are skipped. This module does no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from providers.anthropic.usage import MessagesUsage
from providers.base import ChatRequest, UsageReported
from providers.call_arguments import OpenCall, OpenCalls, as_text
from providers.delta_buffer import DeltaBuffer
from providers.endings import finish_answer
from providers.errors.failures import Failures
from providers.errors.finish_reasons import Finish, map_finish_reason
from providers.errors.shapes import find_failure
from providers.http.lenient_json import decode_events
from providers.media import Media, MediaPiece
from providers.openai.reasoning import is_thought_type, thought_text
from providers.route import Quirks
from providers.tagged_text import TaggedText


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
    thinking: Any = None
    reasoning: Any = None
    signature: str | None = None
    data: str | None = None
    input: str | dict[str, Any] | list[Any] | None = None
    citations: list[_Citation] | None = None


class _StopDetails(Struct, gc=False):
    explanation: str | None = None


class _Delta(Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: Any = None
    reasoning: Any = None
    source: Any = None
    data: Any = None
    partial_json: str | dict[str, Any] | list[Any] | None = None
    signature: str | None = None
    citation: _Citation | None = None
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None


class _Message(Struct, gc=False):
    id: str | None = None
    content: list[_Block] | str | None = None
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None


class _Event(Struct, gc=False):
    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    stop_reason: str | None = None
    """The stop reason, where a host puts it in the event itself."""
    base_resp: Any = None
    """MiniMax's status of the answer."""


_SIGNS_OF_LIFE: Final = frozenset(("heartbeat", "keepalive", "keep-alive", "keep_alive", "pong"))
"""The types of events with which a host only shows that the connection is alive."""

_PAUSES: Final = ("pause_turn", "pause_run", "compaction")
"""The stop reasons after which the same message may go on, until `message_stop`."""

_decoder = msgspec.json.Decoder(_Event, float_hook=float)


class MessagesDecoder:
    """The decoder of one stream. See `stream.Decoder`. An event's type is in its JSON, in its name, or in both."""

    def __init__(self, failures: Failures, quirks: Quirks | None = None, request: ChatRequest | None = None) -> None:
        self.parts = DeltaBuffer(is_rest=request is not None and request.asks_for_rest)
        self._text = _tagged_text(self.parts, quirks, request)
        """The text of a host that may send reasoning in it, else None."""
        self._thoughts: set[int] = set()
        """The indexes of the blocks of reasoning."""
        self._images: dict[int, _Block] = {}
        """Map from a block's index to its image, whose data hasn't arrived yet."""
        self.finishing = False
        self.done = False
        self._failures = failures
        self._usage = MessagesUsage()
        self._finish: Finish | None = None
        self._stop_reason = ""
        """The stop reason in the provider's word, which may be an unknown one."""
        self._explanation: str | None = None
        self._in_block = False
        """Whether the last block that started hasn't stopped."""
        self._held: list[_Block] = []
        """The blocks that came with `message_start`. They are used unless the stream begins them again."""
        self._calls = OpenCalls(self.parts)
        self._open_calls: dict[int, OpenCall] = {}
        """Map from a block's index to its tool call."""
        self._initial_arguments: dict[OpenCall, str] = {}
        """Map from a tool call to its initial arguments, used only if no others arrive."""
        self._initial_thoughts: dict[int, tuple[str, int]] = {}
        """Map from a block's index to the thinking at its start, and how many of its characters a host has repeated."""
        self._has_hosted_calls = False
        self._media = Media(self.parts)

    def decode_event(self, name: str | None, data: bytes) -> bool:
        """Process one event. See `stream.Decoder`. A ping or an empty delta isn't progress of the model."""
        progress = False
        for event in decode_events(data, _decoder):
            if event.type in ("", "error") or event.error is not None or event.base_resp is not None:
                self._check_failed(event, data)
            progress = self._process(event, name) or progress
        return progress

    def _check_failed(self, event: _Event, data: bytes) -> None:
        """Raise the failure that an event reports in another way than Anthropic does, if it reports one."""
        if (failure := find_failure(event, data, self._failures)) is not None:
            self._report_usage()
            raise failure

    def decode_document(self, body: dict[str, Any]) -> bool:
        """Process a message that wasn't streamed. Return False if `body` isn't one. See `stream.Decoder`."""
        blocks = body.get("content")
        if isinstance(blocks, str):
            blocks = [{"type": "text", "text": blocks}]
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
        """Process the end of the stream. See `stream.Decoder`. Some hosts leave out `message_stop`.

        Raise `ProviderError` if the answer has no known stop reason, or if its stop reason is a failure.
        """
        self._use_held()
        if not self.done and self._stop_reason in _PAUSES:
            self._finish = None
        complete = self._finish not in (None, "failed")
        if self._text is not None:
            self._text.close()
        if complete:
            for index in list(self._images):
                self._close_image(index)
            for call, arguments in self._initial_arguments.items():
                self._calls.append(call, arguments)
        self._calls.close(complete=complete)
        if complete:
            self._media.close()
            self.parts.close()
        if self._explanation:
            self.parts.append_text("refusal", self._explanation)
        self._report_usage()
        if self._finish is None:
            raise self._failures.no_finish_reason(self._stop_reason)
        if self._finish == "failed":
            raise self._failures.from_finish_reason(self._stop_reason)
        finish_answer(
            self.parts,
            self._failures,
            self._finish,
            has_calls=bool(self._calls.calls),
            has_half_call=self._calls.has_half(),
            has_hosted_calls=self._has_hosted_calls,
        )

    def _process(self, event: _Event, name: str | None) -> bool:
        handler = _HANDLERS.get(event.type or name or "")
        if handler is not None:
            handler(self, event)
        elif event.error is not None:
            self._failed(event)
        if handler is MessagesDecoder._block_delta:
            return (delta := event.delta) is not None and (bool(delta.text) or _has_content(delta))
        if handler is None:
            return bool(event.type) and event.type not in _SIGNS_OF_LIFE
        return handler is not MessagesDecoder._ping

    def _ping(self, event: _Event) -> None:
        """Ignore a ping."""

    def _failed(self, event: _Event) -> None:
        self._report_usage()
        raise self._failures.from_event({"error": event.error})

    def _message_start(self, event: _Event) -> None:
        """Start the message. A proxy may repeat the event, and another model may start again after a whole thought.

        After any other content, a second message is an error: it would repeat the content, or leave it incomplete.
        """
        if self._finish is not None:
            self.done = True
            return
        if self._in_block or self.parts.kinds - {"reasoning"}:
            self._report_usage()
            raise self._failures.incomplete("a second message began in the middle of the answer")
        message = event.message or _Message()
        content = message.content
        self._held = ([_Block(type="text", text=content)] if isinstance(content, str) else content) or self._held
        self._usage.begin_message(message.id, message.usage)
        self._report_usage()

    def _use_held(self) -> None:
        """Add the blocks that came with `message_start`, if no event has begun them again."""
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
        """Start a block. The part of a text or thinking block starts with its first content: some blocks stay empty."""
        self._in_block = True
        # Some hosts give several blocks one index.
        self.parts.remove_key(index)
        self._open_calls.pop(index, None)
        self._thoughts.discard(index)
        self._initial_thoughts.pop(index, None)
        if self._text is not None and block.type not in ("text", "thinking"):
            self._text.settle()
        if block.type == "tool_use":
            call = self._open_calls[index] = self._calls.open(block.id or "", block.name or "")
            self._initial_arguments[call] = as_text(block.input)
        elif block.type in ("server_tool_use", "mcp_tool_use"):
            self._has_hosted_calls = True
        elif block.type == "redacted_thinking":
            self.parts.append_signature(self.parts.open_part("reasoning", redacted=True), block.data or "")
        elif block.type == "text":
            self._say(block.text or "")
            for citation in block.citations or ():
                self._add_citation(citation)
        elif is_thought_type(block.type):
            self._start_thinking(index, block)
        else:
            self._add_other(index, block)

    def _start_thinking(self, index: int, block: _Block) -> None:
        self._thoughts.add(index)
        thought = thought_text(block.thinking or block.reasoning or block.text)
        if thought or block.signature:
            part = self.parts.open_part("reasoning", key=index)
            self.parts.append(part, thought)
            self._initial_thoughts[index] = thought, 0
            self.parts.append_signature(part, block.signature or "")
            if self._text is not None:
                self._text.record(thought, block.signature or "")

    def _say(self, text: str) -> None:
        if self._text is None:
            self.parts.append_text("text", text)
        else:
            self._text.say(text)

    def _add_other(self, index: int, block: _Block) -> None:
        """Add a block of another type: its text, its image, or a sentence in its place."""
        if "image" in block.type:
            self._images[index] = block
        elif block.text and not block.type.endswith(("_use", "_result")):
            self._say(block.text)
        else:
            self._media.add_piece(block.type, block)

    def _block_delta(self, event: _Event) -> None:
        if self._held:
            self._use_held()
        index, delta = event.index, event.delta or _Delta()
        if delta.type == "text_delta" and index not in self._thoughts:
            if self._text is None:
                self.parts.append_text("text", delta.text or "")
            else:
                self._text.say(delta.text or "")
        elif is_thought_type(delta.type) or (delta.text and index in self._thoughts) or delta.thinking:
            self._think(index, thought_text(delta.thinking or delta.reasoning or delta.text))
        elif delta.type == "input_json_delta":
            call = self._open_calls.get(index)
            if call is not None and delta.partial_json:
                self._initial_arguments.pop(call, None)
                self._open_calls[index] = self._calls.append(call, as_text(delta.partial_json))
        elif delta.type == "signature_delta":
            if delta.signature:
                self._sign(index, delta.signature)
        else:
            self._add_other_delta(index, delta)

    def _add_other_delta(self, index: int, delta: _Delta) -> None:
        if delta.type.startswith("image"):
            self._add_image(index, delta.source or delta.data)
        elif not delta.type and delta.text:
            self._say(delta.text)
        elif delta.type == "citations_delta" and delta.citation is not None:
            self._add_citation(delta.citation)

    def _think(self, index: int, text: str) -> None:
        if thought := self._without_initial(index, text):
            self.parts.append(self._thinking_part(index), thought)
            if self._text is not None:
                self._text.record(thought)

    def _sign(self, index: int, signature: str) -> None:
        self.parts.append_signature(self._thinking_part(index), signature)
        if self._text is not None:
            self._text.record(signature=signature)

    def _add_image(self, index: int, image: Any) -> None:
        """Add the image that arrives after the start of its block."""
        if image:
            block = self._images.pop(index, _Block())
            claimed = block.source.get("media_type") if isinstance(block.source, dict) else block.media_type
            self._media.add_image(image, claimed if isinstance(claimed, str) else "")

    def _close_image(self, index: int) -> None:
        if (block := self._images.pop(index, None)) is not None:
            self._media.add_piece(block.type, block)

    def _without_initial(self, index: int, thought: str) -> str:
        """Return `thought` without the thinking that the start of its block already had: some hosts repeat it."""
        initial, repeated = self._initial_thoughts.pop(index, ("", 0))
        if not initial:
            return thought
        left = len(initial) - repeated
        if len(thought) >= left and thought.startswith(initial[repeated:]):
            return thought[left:]
        if initial.startswith(thought, repeated):
            self._initial_thoughts[index] = initial, repeated + len(thought)
            return ""
        return initial[:repeated] + thought

    def _add_citation(self, citation: _Citation) -> None:
        self.parts.add_citation(
            url=citation.url, title=citation.title or citation.document_title, text=citation.cited_text
        )

    def _thinking_part(self, index: int) -> int:
        part = self.parts.find_part(index)
        return part if part is not None else self.parts.open_part("reasoning", key=index)

    def _block_stop(self, event: _Event) -> None:
        self._in_block = False
        if self._images:
            self._close_image(event.index)
        if (call := self._open_calls.get(event.index)) is not None:
            self._open_calls[event.index] = self._calls.append(call, self._initial_arguments.pop(call, ""))

    def _message_delta(self, event: _Event) -> None:
        self._usage.add(event.usage)
        delta = event.delta
        if reason := (delta.stop_reason if delta else None) or event.stop_reason:
            self._stopped(reason)
        if delta is not None and delta.stop_reason:
            self._explanation = delta.stop_details.explanation if delta.stop_details else None

    def _message_stop(self, event: _Event) -> None:
        in_message = event.message.stop_reason if event.message else None
        if reason := event.stop_reason or (event.delta.stop_reason if event.delta else None) or in_message:
            self._stopped(reason)
        self.finishing = self.done = True

    def _stopped(self, reason: str) -> None:
        finish = map_finish_reason(reason)
        if finish is not None or self._finish is None:
            self._finish, self._stop_reason = finish, reason
        self.finishing = self._finish is not None and reason not in _PAUSES

    def _report_usage(self) -> None:
        if (usage := self._usage.usage(is_complete=self.done)) is not None:
            self.parts.append_delta(UsageReported(usage))


def _has_content(delta: _Delta) -> bool:
    return bool(
        delta.thinking
        or delta.partial_json
        or delta.signature
        or delta.citation
        or delta.reasoning
        or delta.source
        or delta.data
    )


def _tagged_text(parts: DeltaBuffer, quirks: Quirks | None, request: ChatRequest | None) -> TaggedText | None:
    if quirks is None or not quirks.think_tags:
        return None
    if request is None:
        return TaggedText(parts, is_opened=quirks.think_opened, is_whole=True)
    is_whole = not request.asks_for_rest
    is_opened = quirks.think_opened and is_whole and request.params.reasoning != "none"
    return TaggedText(parts, is_opened=is_opened, is_whole=is_whole)


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
