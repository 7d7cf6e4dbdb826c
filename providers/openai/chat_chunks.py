"""Decode a stream of OpenAI's Chat Completions API into deltas. Unused fields are skipped. This module does no I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from providers.base import Finished, UsageReported
from providers.delta_buffer import DeltaBuffer
from providers.errors.failures import Failures
from providers.errors.finish_reasons import map_finish_reason
from providers.http.lenient_json import decode_events, parse_documents
from providers.http.sse import is_end_mark
from providers.media import Media, MediaPiece
from providers.openai.think_tags import ThinkTags
from providers.openai.tool_calls import LEGACY, ToolCallAssembler
from providers.route import Quirks
from providers.token_counts import chat_cost, chat_usage


class _Function(Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Google(Struct, gc=False):
    thought_signature: str | None = None


class _Extra(Struct, gc=False):
    google: _Google | None = None


class _ToolCall(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    extra_content: _Extra | None = None


class _Piece(MediaPiece, gc=False):
    """A piece of list content, or a reasoning detail."""

    type: str = ""
    text: str | None = None
    thinking: str | list[_Piece] | None = None
    summary: str | None = None
    data: str | None = None
    signature: str | None = None
    id: str | None = None
    format: str | None = None
    index: int | None = None


class _Cited(Struct, gc=False):
    url: str | None = None
    title: str | None = None


class _Annotation(Struct, gc=False):
    url_citation: _Cited | None = None


class _Delta(Struct, gc=False):
    content: str | list[_Piece | str] | _Piece | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[_Piece] | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    annotations: list[_Annotation] | None = None
    images: Any = None
    audio: Any = None


class _Choice(Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


class _Chunk(Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    citations: list[str] | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Chunk, float_hook=float)


class ChatDecoder:
    """The decoder of one stream of chunks. See `stream.Decoder`."""

    def __init__(self, quirks: Quirks, failures: Failures) -> None:
        self.parts = DeltaBuffer()
        self.finishing = False
        self.done = False
        self._quirks = quirks
        self._failures = failures
        self._finish: str | None = None
        self._usage: dict[str, Any] | None = None
        self._tags = ThinkTags() if quirks.think_tags else None
        self._calls = ToolCallAssembler(self.parts)
        self._media = Media(self.parts)
        self._signed: set[int] = set()
        """The numbers of the reasoning parts that have their signature."""
        self._citation_urls: list[str] = []
        """The URLs of the pages that the answer cites, which some hosts list in every chunk."""

    def decode_event(self, name: str | None, data: bytes) -> bool:
        """Process one event, which is always progress. See `stream.Decoder`."""
        if is_end_mark(data):
            self.done = True
            return True
        if name == "error":
            raise self._failures.from_event(parse_documents(data))
        is_checked = False
        for chunk in decode_events(data, _decoder):
            self._add_chunk(chunk)
            if chunk.choices is None and not is_checked:
                is_checked = True
                if (failure := self._failures.from_documents(parse_documents(data))) is not None:
                    self._report_usage()
                    raise failure
        return True

    def decode_document(self, body: dict[str, Any]) -> bool:
        """Process a completion or a chunk without a frame. Return False if `body` is neither. See `stream.Decoder`."""
        return "choices" in body and self.decode_event(None, json.dumps(body).encode())

    def end(self) -> None:
        """Process the end of the stream. See `stream.Decoder`.

        Raise `ProviderError` if the answer is incomplete or its finish reason is a failure.
        """
        if self._tags is not None:
            for kind, text in self._tags.close():
                self.parts.append_text(kind, text)
        finish = map_finish_reason(self._finish) if self._finish else None
        complete = finish is not None or (
            not self._finish and self._quirks.ends_without_finish and self.parts.count > 0
        )
        if complete:
            # An interrupted answer isn't closed: `close` would fill in missing arguments, or U+FFFD for half a surrogate
            # pair.
            self._calls.close()
            self.parts.close()
        for url in self._citation_urls:
            self.parts.add_citation(url=url, title=None, text=None)
        self._media.close()
        self._report_usage()
        if self._finish and finish is None:
            raise self._failures.from_finish_reason(self._finish)
        if not complete:
            raise self._failures.incomplete()
        if finish in (None, "stop"):
            # A forced tool call ends with "stop", and a refusal has no finish reason of its own.
            finish = "tool_calls" if self._calls else "refusal" if self.parts.last_kind == "refusal" else "stop"
        self.parts.append_delta(Finished(finish))

    def _add_chunk(self, chunk: _Chunk) -> None:
        if chunk.usage:
            self._usage = chunk.usage
        if chunk.citations:
            self._citation_urls = chunk.citations
        if chunk.error:
            self._fail(chunk.error)
        for choice in chunk.choices or ():
            if choice.index != 0:
                continue
            if choice.usage:
                self._usage = choice.usage
            if choice.error:
                self._fail(choice.error)
            if choice.delta is not None:
                self._add_delta(choice.delta)
            if choice.message is not None and not self.parts.count and not self._calls.pending:
                # Some hosts send only the whole answer. Others repeat the whole answer after its chunks.
                self._add_delta(choice.message)
            elif choice.message is not None and choice.message.images:
                self._media.add_images(choice.message.images)
            if choice.finish_reason:
                self._finish = choice.finish_reason
                self.finishing = True

    def _fail(self, error: object) -> None:
        self._report_usage()
        raise self._failures.from_event({"error": error})

    def _add_delta(self, delta: _Delta) -> None:
        parts = self.parts
        thought = delta.reasoning_content or delta.reasoning
        if self._calls.pending and (delta.content or thought or delta.reasoning_details or delta.refusal):
            self._calls.open_named()
        if thought:
            parts.append_text("reasoning", thought)
        if delta.reasoning_details:
            self._add_details(delta.reasoning_details, has_text=bool(thought))
        content = delta.content
        if content:
            if not isinstance(content, str):
                self._add_pieces(content if isinstance(content, list) else [content])
            elif self._tags is None:
                parts.append_text("text", content)
            else:
                for kind, text in self._tags.feed(content):
                    parts.append_text(kind, text)
        if delta.refusal:
            parts.append_text("refusal", delta.refusal)
        if delta.tool_calls or delta.function_call:
            self._add_tool_calls(delta)
        if delta.annotations or delta.images or delta.audio:
            self._add_more(delta)

    def _add_more(self, delta: _Delta) -> None:
        """Add what stands beside the content: citations, images (as OpenRouter sends them) and sound."""
        for annotation in delta.annotations or ():
            if (cited := annotation.url_citation) is not None:
                self.parts.add_citation(url=cited.url, title=cited.title, text=None)
        if self._calls.pending and (delta.images or delta.audio):
            self._calls.open_named()
        if delta.images:
            self._media.add_images(delta.images)
        if delta.audio:
            self._media.add_audio(delta.audio)

    def _add_pieces(self, content: Sequence[_Piece | str]) -> None:
        for piece in content:
            if isinstance(piece, str):
                self.parts.append_text("text", piece)
            elif piece.type == "thinking":
                inner = piece.thinking
                for thought in inner if isinstance(inner, list) else [_Piece(text=inner)]:
                    self.parts.append_text("reasoning", thought.text or "")
            else:
                self.parts.append_text("text", piece.text or "")
                if piece.type != "text":
                    self._media.add_piece(piece.type, piece, has_text=bool(piece.text))

    def _add_details(self, details: list[_Piece], *, has_text: bool) -> None:
        """Process reasoning in the format of OpenRouter. `has_text` says whether another field already gave its text."""
        for detail in details:
            if not has_text:
                self.parts.append_text("reasoning", detail.text or detail.summary or "")
            if signature := detail.signature or detail.data:
                if self.parts.last_kind != "reasoning" or self.parts.last in self._signed:
                    self.parts.open_part("reasoning", redacted=detail.data is not None)
                self._signed.add(self.parts.last)
                self.parts.append_signature(
                    self.parts.last, _encode_detail(detail) if self._quirks.reasoning_details else signature
                )

    def _add_tool_calls(self, delta: _Delta) -> None:
        for call in delta.tool_calls or ():
            google = call.extra_content.google if call.extra_content else None
            signature = google.thought_signature if google else None
            self._add_tool_call(call.index, call.id or "", call.function or _Function(), signature or "")
        if delta.function_call is not None:
            self._add_tool_call(LEGACY, "", delta.function_call)

    def _add_tool_call(self, index: int | None, call_id: str, function: _Function, signature: str = "") -> None:
        arguments = function.arguments or ""
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments)
        self._calls.add(index, call_id, function.name or "", arguments, signature)

    def _report_usage(self) -> None:
        if self._usage:
            self.parts.append_delta(
                UsageReported(chat_usage(self._usage, self._quirks), chat_cost(self._usage, self._quirks))
            )
            self._usage = None


def _encode_detail(detail: _Piece) -> str:
    """Return a reasoning detail as JSON, as it has to be sent back, without its text, which is in the part."""
    fields = ("type", "signature", "data", "id", "format", "index")
    return json.dumps({name: value for name in fields if (value := getattr(detail, name)) is not None})
