"""Decode a stream of OpenAI's Responses API into deltas. Unused fields are skipped. This module does no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec
from msgspec import Struct

from providers.base import FinishReason, PartKind, ResponseHandle
from providers.delta_buffer import DeltaBuffer
from providers.endings import finish_answer
from providers.errors.failures import Failures
from providers.errors.finish_reasons import map_finish_reason
from providers.errors.shapes import find_failure
from providers.http.lenient_json import decode_events
from providers.http.sse import is_end_mark
from providers.openai.responses_items import OutputItems
from providers.openai.responses_schema import KINDS, Annotation, Arguments, Item, ItemKey, Piece, Source
from providers.openai.whole_output import complete_output
from providers.quirks import Quirks
from providers.think_tags import ThinkTags
from providers.thoughts import thought_text
from providers.token_counts import UsageReports

_TEXTS: Final[dict[str, tuple[PartKind, Source]]] = {
    "response.output_text": ("text", "content"),
    "response.refusal": ("refusal", "content"),
    "response.reasoning_text": ("reasoning", "content"),
    "response.reasoning": ("reasoning", "content"),
    "response.reasoning_summary_text": ("reasoning", "summary"),
    "response.reasoning_summary": ("reasoning", "summary"),
    "response.output_audio_transcript": ("text", "content"),
    "response.audio_transcript": ("text", "content"),
    "response.audio.transcript": ("text", "content"),
}
_DELTAS: Final = {f"{name}.delta": field for name, field in _TEXTS.items()}
_WHOLE_TEXTS: Final = {f"{name}.done": field for name, field in _TEXTS.items()}


class _Incomplete(Struct, gc=False):
    reason: str | None = None


class _Response(Struct, gc=False):
    id: str | None = None
    status: str | None = None
    output: list[Item] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    incomplete_details: _Incomplete | None = None


class _Event(Struct, gc=False):
    type: str = ""
    delta: str | dict[str, Any] | None = None
    output_index: int | None = None
    content_index: int = 0
    summary_index: int = 0
    item_id: str | None = None
    text: str | None = None
    refusal: str | None = None
    transcript: str | None = None
    partial_image_b64: str | None = None
    arguments: Arguments = None
    part: Piece | None = None
    item: Item | None = None
    annotation: Annotation | None = None
    response: _Response | None = None
    error: Any = None
    base_resp: Any = None
    """MiniMax's status of the answer."""
    code: Any = None
    message: Any = None
    param: Any = None


_decoder = msgspec.json.Decoder(_Event, float_hook=float)


class ResponsesDecoder:
    """The decoder of one stream. See `stream.Decoder`. An event's type is in its JSON, in its name, or in both.

    `stored_for` is the id of the route if the provider stores the answer. In that case, one of the deltas is a
    `ResponseHandle` with the provider's id of the answer.
    `tools` are the names of the client's tools, or None if they aren't known. `is_rest` is that of `DeltaBuffer`.
    """

    plain = None

    def __init__(
        self,
        quirks: Quirks,
        failures: Failures,
        stored_for: str | None = None,
        tools: Collection[str] | None = None,
        *,
        is_rest: bool = False,
    ) -> None:
        self.parts = DeltaBuffer(is_rest=is_rest)
        self.finishing = False
        self.done = False
        tags = ThinkTags(is_opened=quirks.think_opened) if quirks.think_tags else None
        self._output = OutputItems(self.parts, tools, tags)
        self._texts, self._calls = self._output.texts, self._output.calls
        self._quirks = quirks
        self._failures = failures
        self._stored_for = stored_for
        self._finish: FinishReason | None = None
        self._usage = UsageReports(quirks)

    def decode_event(self, name: str | None, data: bytes) -> bool:
        """Process one event. See `stream.Decoder`.

        The events `queued`, `created` and `in_progress` and unknown events show no progress.
        """
        if is_end_mark(data):
            self.done = True
            return True
        progress = False
        for event in decode_events(data, _decoder):
            if (not event.type or event.error is not None or event.base_resp is not None) and (
                failure := find_failure(event, data, self._failures)
            ) is not None:
                self._report_usage()
                raise failure
            progress = self._process(event, name) or progress
        return progress

    def _process(self, event: _Event, name: str | None) -> bool:
        kind = event.type or name or ""
        field = _DELTAS.get(kind) or _WHOLE_TEXTS.get(kind)
        if field is not None:
            part, source = field
            index = event.content_index if source == "content" else event.summary_index
            if kind in _DELTAS:
                delta = event.delta if isinstance(event.delta, str) else thought_text(event.delta)
                self._texts.add(part, _item_key(event), source, index, delta)
                return bool(delta)
            else:
                text = event.text or event.refusal or event.transcript or ""
                self._texts.add_whole(part, _item_key(event), source, index, text)
            if "transcript" in kind:
                self._output.add_transcript()
        elif (handler := _HANDLERS.get(kind)) is not None:
            handler(self, event)
            return handler is not ResponsesDecoder._response_started
        elif event.error:
            self._failed(event)
        else:
            return False
        return True

    def decode_document(self, body: dict[str, Any]) -> bool:
        """Process a response or an event without a frame. Return False if `body` is neither. See `stream.Decoder`."""
        if body.get("object") == "response":
            body = {"type": f"response.{body.get('status')}", "response": body}
        if not str(body.get("type")).startswith("response."):
            return False
        self.decode_event(None, json.dumps(body).encode())
        return True

    def end(self) -> None:
        """Process the end of the stream. Raise `ProviderError` if the answer is incomplete. See `stream.Decoder`."""
        self._report_usage()
        if self._finish is None and not (self._quirks.ends_without_finish and self.parts.count):
            # An interrupted answer is left as it is: without arguments that never came, without U+FFFD for half a
            # surrogate pair, and without a note about what can't be shown.
            self._output.close(complete=False)
            raise self._failures.incomplete()
        self._output.close()
        self.parts.close()
        finish_answer(
            self.parts,
            self._failures,
            self._finish or "stop",
            has_calls=bool(self._calls),
            has_half_call=self._calls.has_half(),
        )

    def _response_started(self, event: _Event) -> None:
        if self._stored_for is not None and event.response is not None and event.response.id:
            self.parts.append_delta(ResponseHandle(self._stored_for, event.response.id))
            self._stored_for = None

    def _piece_added(self, event: _Event) -> None:
        """Add the text that a new piece begins with, if any."""
        self._add_piece(event, self._texts.add)

    def _piece_done(self, event: _Event) -> None:
        self._add_piece(event, self._texts.add_whole)
        if event.part is not None:
            if "image" in event.part.type:
                self._output.add_media(event.part)
            self._output.add_other_citations(_item_key(event), event.content_index, event.part)

    def _add_piece(self, event: _Event, add: Callable[[PartKind, ItemKey, Source, int, str], None]) -> None:
        piece = event.part or Piece()
        kind = KINDS.get(piece.type)
        if kind is not None:
            is_summary = piece.type == "summary_text"
            index = event.summary_index if is_summary else event.content_index
            add(kind, _item_key(event), "summary" if is_summary else "content", index, piece.words)

    def _annotated(self, event: _Event) -> None:
        if event.annotation is not None:
            self._output.add_citation(_item_key(event), event.content_index, event.annotation)

    def _arguments_delta(self, event: _Event) -> None:
        piece = event.delta if isinstance(event.delta, str) else ""
        self._calls.append(_item_key(event), piece, event.item_id)

    def _arguments_done(self, event: _Event) -> None:
        self._calls.append_whole(_item_key(event), event.arguments, event.item_id)

    def _item_added(self, event: _Event) -> None:
        if event.item is not None:
            self._output.start_item(_item_key(event), event.item)

    def _item_done(self, event: _Event) -> None:
        if event.item is not None:
            self._output.complete_item(_item_key(event), event.item)

    def _image_progress(self, event: _Event) -> None:
        """Keep the preview of an image that the provider is making. An event without a preview is only progress."""
        if event.partial_image_b64:
            self._output.add_preview(_item_key(event), event.partial_image_b64)

    def _sound(self, event: _Event) -> None:
        if isinstance(event.delta, str) and event.delta:
            self._output.add_sound(event.delta)

    def _failed(self, event: _Event) -> None:
        response = event.response or _Response()
        self._usage.add(response.usage)
        self._report_usage()
        fields = {"code": event.code, "message": event.message, "param": event.param}
        raise self._failures.from_event({"error": event.error or response.error or fields})

    def _ended(self, event: _Event) -> None:
        response = event.response or _Response()
        if response.error or response.status == "failed":
            self._failed(event)
        self._usage.add(response.usage)
        complete_output(self._output, response.output or ())
        if "cancelled" in (response.status, event.type.removeprefix("response.")):
            self._report_usage()
            raise self._failures.incomplete("the response was cancelled")
        if "incomplete" in (response.status, event.type.removeprefix("response.")):
            reason = response.incomplete_details.reason if response.incomplete_details else None
            self._finish = "content_filter" if map_finish_reason(reason or "") == "content_filter" else "length"
        else:
            self._finish = "stop"
        self.finishing = self.done = True

    def _report_usage(self) -> None:
        if (reported := self._usage.take()) is not None:
            self.parts.append_delta(reported)


def _item_key(event: _Event) -> ItemKey:
    if event.output_index is not None:
        return event.output_index
    return event.item_id or (event.item.id if event.item else None) or ""


_HANDLERS: Final[dict[str, Callable[[ResponsesDecoder, _Event], None]]] = {
    "response.queued": ResponsesDecoder._response_started,
    "response.created": ResponsesDecoder._response_started,
    "response.in_progress": ResponsesDecoder._response_started,
    "response.output_text.annotation.added": ResponsesDecoder._annotated,
    "response.content_part.added": ResponsesDecoder._piece_added,
    "response.content_part.done": ResponsesDecoder._piece_done,
    "response.reasoning_summary_part.added": ResponsesDecoder._piece_added,
    "response.reasoning_summary_part.done": ResponsesDecoder._piece_done,
    "response.function_call_arguments.delta": ResponsesDecoder._arguments_delta,
    "response.function_call_arguments.done": ResponsesDecoder._arguments_done,
    "response.output_item.added": ResponsesDecoder._item_added,
    "response.output_item.done": ResponsesDecoder._item_done,
    "response.image_generation_call.in_progress": ResponsesDecoder._image_progress,
    "response.image_generation_call.generating": ResponsesDecoder._image_progress,
    "response.image_generation_call.partial_image": ResponsesDecoder._image_progress,
    "response.image_generation_call.completed": ResponsesDecoder._image_progress,
    "response.audio.delta": ResponsesDecoder._sound,
    "response.output_audio.delta": ResponsesDecoder._sound,
    "response.completed": ResponsesDecoder._ended,
    "response.done": ResponsesDecoder._ended,
    "response.incomplete": ResponsesDecoder._ended,
    "response.cancelled": ResponsesDecoder._ended,
    "response.failed": ResponsesDecoder._failed,
    "error": ResponsesDecoder._failed,
}
