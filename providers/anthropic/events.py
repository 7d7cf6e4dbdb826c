"""Decode a stream of Anthropic's Messages API into deltas. Unused fields are skipped. This module does no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from providers.anthropic.blocks import ContentBlocks
from providers.anthropic.schema import Block, Delta, Event, Message, event_decoder, has_content
from providers.anthropic.usage import MessagesUsage
from providers.base import ChatRequest, UsageReported
from providers.delta_buffer import DeltaBuffer
from providers.endings import finish_answer
from providers.errors.failures import Failures
from providers.errors.finish_reasons import Finish, map_finish_reason
from providers.errors.shapes import find_failure
from providers.http.lenient_json import decode_events
from providers.quirks import Quirks
from providers.tagged_text import TaggedText

_SIGNS_OF_LIFE: Final = frozenset(("heartbeat", "keepalive", "keep-alive", "keep_alive", "pong"))
"""The types of events with which a host only shows that the connection is alive."""

_PAUSES: Final = ("pause_turn", "pause_run", "compaction")
"""The stop reasons after which the same message may go on, until `message_stop`."""


class MessagesDecoder:
    """The decoder of one stream. See `stream.Decoder`. An event's type is in its JSON, in its name, or in both."""

    plain = None

    def __init__(self, failures: Failures, quirks: Quirks | None = None, request: ChatRequest | None = None) -> None:
        self.parts = DeltaBuffer(is_rest=request is not None and request.asks_for_rest)
        self._blocks = ContentBlocks(self.parts, _tagged_text(self.parts, quirks, request))
        self.finishing = False
        self.done = False
        self._failures = failures
        self._usage = MessagesUsage()
        self._finish: Finish | None = None
        self._stop_reason = ""
        """The stop reason in the provider's word, which may be an unknown one."""
        self._stop_sequence: str | None = None
        self._explanation: str | None = None

    def decode_event(self, name: str | None, data: bytes) -> bool:
        """Process one event. See `stream.Decoder`. A ping or an empty delta isn't progress of the model."""
        progress = False
        for event in decode_events(data, event_decoder):
            if event.type in ("", "error") or event.error is not None or event.base_resp is not None:
                self._check_failed(event, data)
            progress = self._process(event, name) or progress
        return progress

    def _check_failed(self, event: Event, data: bytes) -> None:
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
        ended = {name: body.get(name) for name in ("stop_reason", "stop_sequence")}
        stop = {"type": "message_delta", "delta": ended, "usage": body.get("usage")}
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
        self._blocks.use_held()
        if not self.done and self._stop_reason in _PAUSES:
            self._finish = None
        complete = self._finish not in (None, "failed")
        self._blocks.close(complete=complete)
        if complete:
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
            has_calls=bool(self._blocks.calls.calls),
            has_half_call=self._blocks.calls.has_half(),
            has_hosted_calls=self._blocks.has_hosted,
            stop_sequence=self._stop_sequence,
        )

    def _process(self, event: Event, name: str | None) -> bool:
        kind = event.type or name or ""
        if kind == "content_block_delta":
            delta = event.delta or Delta()
            self._blocks.add(event.index, delta)
            return bool(delta.text) or has_content(delta)
        handler = _HANDLERS.get(kind)
        if handler is not None:
            handler(self, event)
        elif event.error is not None:
            self._failed(event)
        if handler is None:
            return bool(event.type) and event.type not in _SIGNS_OF_LIFE
        return handler is not MessagesDecoder._ping

    def _ping(self, event: Event) -> None:
        """Ignore a ping."""

    def _failed(self, event: Event) -> None:
        self._report_usage()
        raise self._failures.from_event({"error": event.error})

    def _message_start(self, event: Event) -> None:
        """Start the message. A proxy may repeat the event. After complete reasoning, another model may start over.

        After any other content, a second message is an error: it would repeat the content, or leave it incomplete.
        """
        if self._finish is not None:
            self.done = True
            return
        if self._blocks.is_open or self.parts.kinds - {"reasoning"}:
            self._report_usage()
            raise self._failures.incomplete("a second message began in the middle of the answer")
        message = event.message or Message()
        self._blocks.hold(message.content)
        self._usage.begin_message(message.id, message.usage)
        self._report_usage()

    def _block_start(self, event: Event) -> None:
        self._blocks.start(event.index, event.content_block or Block())

    def _block_stop(self, event: Event) -> None:
        self._blocks.stop(event.index)

    def _message_delta(self, event: Event) -> None:
        self._usage.add(event.usage)
        delta = event.delta
        if reason := (delta.stop_reason if delta else None) or event.stop_reason:
            self._stopped(reason)
        if delta is not None and delta.stop_reason:
            self._stop_sequence = delta.stop_sequence
            self._explanation = delta.stop_details.explanation if delta.stop_details else None

    def _message_stop(self, event: Event) -> None:
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


def _tagged_text(parts: DeltaBuffer, quirks: Quirks | None, request: ChatRequest | None) -> TaggedText | None:
    if quirks is None or not quirks.think_tags:
        return None
    if request is None:
        return TaggedText(parts, is_opened=quirks.think_opened, is_whole=True)
    is_whole = not request.asks_for_rest
    is_opened = quirks.think_opened and is_whole and request.params.reasoning != "none"
    return TaggedText(parts, is_opened=is_opened, is_whole=is_whole)


_HANDLERS: Final[dict[str, Callable[[MessagesDecoder, Event], None]]] = {
    "ping": MessagesDecoder._ping,
    "message_start": MessagesDecoder._message_start,
    "content_block_start": MessagesDecoder._block_start,
    "content_block_stop": MessagesDecoder._block_stop,
    "message_delta": MessagesDecoder._message_delta,
    "message_stop": MessagesDecoder._message_stop,
    "error": MessagesDecoder._failed,
}
