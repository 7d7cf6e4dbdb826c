"""Decode a stream of OpenAI's Chat Completions API into deltas. Unused fields are skipped. This module does no I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from providers.base import ChatRequest
from providers.delta_buffer import DeltaBuffer
from providers.endings import finish_answer
from providers.errors.failures import Failures
from providers.errors.finish_reasons import Finish, map_finish_reason
from providers.errors.shapes import find_failed, has_failed
from providers.http.lenient_json import decode_events, parse_documents
from providers.http.sse import END_MARK_BYTES_MAX, is_end_mark
from providers.media import Media
from providers.openai.chat_calls import ChatCalls
from providers.openai.chat_schema import (
    Choice,
    Chunk,
    Content,
    Delta,
    Extra,
    Piece,
    chunk_decoder,
    has_content,
    is_marked_as_thought,
)
from providers.openai.choice_selector import ChoiceSelector
from providers.openai.plain_chunks import PlainChunks
from providers.openai.reasoning import TEXT, Reasoning
from providers.openai.reasoning_fields import ReasoningFields
from providers.openai.tool_calls import ToolCallAssembler
from providers.openai.whole_message import missing_delta
from providers.quirks import Quirks
from providers.think_tags import ANSWER_RESTATED, REASONING_RESTATED, ThinkTags
from providers.think_tags import Piece as ThinkPiece
from providers.thoughts import is_thought, thought_text
from providers.token_counts import UsageReports


class ChatDecoder:
    """The decoder of one stream of chunks. See `stream.Decoder`.

    Without `request`, the names of the client's tools aren't known.
    """

    def __init__(self, quirks: Quirks, failures: Failures, request: ChatRequest | None = None) -> None:
        self.parts = DeltaBuffer(is_rest=request is not None and request.asks_for_rest)
        self.finishing = False
        self.done = False
        self._quirks = quirks
        self._failures = failures
        self._finish: Finish | None = None
        self._finish_word = ""
        """The host's finish reason, which may be an unknown word."""
        self._choices = ChoiceSelector()
        self._said: list[str] = []
        """The text so far, as it arrived."""
        self.record_text = self._said.append
        self._usage = UsageReports(quirks)
        self._reasoning = Reasoning(self.parts)
        self._reasoning_fields = ReasoningFields(self.parts, self._reasoning, keeps_details=quirks.reasoning_details)
        self._tags = self._think_tags(request) if quirks.think_tags else None
        self._calls = ToolCallAssembler(self.parts)
        tools = None if request is None else {tool.name for tool in request.tools}
        self._chat_calls = ChatCalls(self._calls, tools)
        self._media = Media(self.parts)
        self._citation_urls: list[str] = []
        """The URLs of the pages that the answer cites, which some hosts list in every chunk."""
        self.plain = PlainChunks(self)

    @property
    def choice(self) -> int:
        """The index of the choice that is the answer."""
        return self._choices.index

    @property
    def watched_text(self) -> list[str] | None:
        """The list to which text has to be added too, or None if there is none."""
        return None if self._tags is None else self._tags.watched

    @property
    def only_appends_text(self) -> bool:
        """Whether text without "<", as the latest chunk had, would only be recorded, and appended to the current part."""
        is_watched = self._tags is None or self._tags.watched is not None
        return is_watched and not self.finishing and self.parts.is_at_text

    def decode_event(self, name: str | None, data: bytes) -> bool:
        """Process one event. See `stream.Decoder`. An empty chunk isn't progress of the model: see `has_content`."""
        if len(data) < END_MARK_BYTES_MAX and is_end_mark(data):
            self.done = True
            return True
        if name == "error":
            raise self._failures.from_event(parse_documents(data))
        is_checked = progress = False
        for chunk in decode_events(data, chunk_decoder):
            if (chunk.error is not None or chunk.base_resp is not None) and has_failed(chunk):
                self._report_usage()
                raise self._failures.from_event(find_failed(parse_documents(data)))
            self._add_chunk(chunk)
            if not progress:
                choices = chunk.choices
                progress = bool(choices and (delta := choices[0].delta) and delta.content) or has_content(chunk)
            if chunk.choices is None and not is_checked:
                is_checked = True
                if (failure := self._failures.from_documents(parse_documents(data))) is not None:
                    self._report_usage()
                    raise failure
        return progress

    def decode_document(self, body: dict[str, Any]) -> bool:
        """Process a completion or a chunk without a frame. Return False if `body` is neither. See `stream.Decoder`."""
        if "choices" not in body:
            return False
        # A chunk may have nothing of use, such as the first one, which has only the role.
        return self.decode_event(None, json.dumps(body).encode()) or isinstance(body["choices"], list)

    def end(self) -> None:
        """Process the end of the stream. See `stream.Decoder`.

        Raise `ProviderError` if the answer is incomplete or its finish reason is a failure.
        """
        self._add_choices(self._choices.release())
        if self._tags is not None:
            self._add_tagged(self._tags.close())
        complete = self._finish not in (None, "failed") or (
            self._finish is None and self._quirks.ends_without_finish and self.parts.count > 0
        )
        # An interrupted answer is left as it is: without arguments that never came, without U+FFFD for half a surrogate
        # pair, and without a note about what can't be shown.
        self._calls.close(complete=complete)
        if complete:
            if self._finish != "length":
                self._correct_assumption()
            self.parts.close()
        for url in self._citation_urls:
            self.parts.add_citation(url=url, title=None, text=None)
        if complete:
            self._media.close()
        self._report_usage()
        if self._finish == "failed":
            raise self._failures.from_finish_reason(self._finish_word)
        if not complete:
            raise self._failures.no_finish_reason(self._finish_word)
        finish_answer(
            self.parts,
            self._failures,
            self._finish or "stop",
            has_calls=bool(self._calls),
            has_half_call=self._calls.has_half(),
            has_hosted_calls=self._calls.has_hosted,
        )

    def _add_chunk(self, chunk: Chunk) -> None:
        if chunk.usage:
            self._usage.add(chunk.usage)
        if chunk.citations:
            self._citation_urls = chunk.citations
        if chunk.error:
            self._fail(chunk.error)
        for choice in chunk.choices or ():
            if choice.index != self._choices.index:
                self._add_choices(self._choices.add_other(choice, has_answer=self.parts.count > 0))
                continue
            if choice.usage:
                self._usage.add(choice.usage)
            if choice.error:
                self._fail(choice.error)
            if choice.delta is not None:
                self._add_delta(choice.delta)
            if choice.message is not None:
                self._add_message(choice.message)
            if choice.finish_reason:
                self._add_finish(choice.finish_reason)

    def _add_finish(self, word: str) -> None:
        finish = map_finish_reason(word)
        if finish is not None or self._finish is None:
            self._finish, self._finish_word = finish, word
        self.finishing = self._finish is not None

    def _add_choices(self, choices: list[Choice]) -> None:
        if choices:
            self._add_chunk(Chunk(choices=choices))

    def _fail(self, error: object) -> None:
        self._report_usage()
        raise self._failures.from_event({"error": error})

    def _add_delta(self, delta: Delta) -> None:
        parts = self.parts
        thought = (
            delta.reasoning_content
            or delta.reasoning
            or delta.reasoning_text
            or delta.thinking
            or delta.thinking_blocks
            or delta.reasoning_details
            or (not delta.content and (delta.thoughts or delta.thought or delta.reasoning_summary))
        )
        if self._calls.pending and (delta.content or thought or delta.refusal):
            self._calls.open_named()
        if thought:
            self._reasoning_fields.add(delta)
            if self._tags is not None and self._reasoning.part >= 0:
                self._tags.expect_text()
        content = delta.content
        if content:
            if not isinstance(content, str) or delta.extra_content is not None:
                self._add_pieces(content if isinstance(content, list) else [content], delta.extra_content)
            else:
                self.record_text(content)
                if self._tags is None:
                    parts.append_text("text", content)
                elif (watched := self._tags.watched) is not None and "<" not in content:
                    watched.append(content)
                    parts.append_text("text", content)
                else:
                    self._add_tagged(self._tags.feed(content))
        if thought:
            self._reasoning.spoken = False
        if delta.refusal:
            parts.append_text("refusal", delta.refusal)
        if delta.tool_calls or delta.function_call:
            self._settle_tags()
            self._chat_calls.add(delta)
        if (
            delta.annotations
            or delta.images
            or delta.audio
            or delta.multi_mod_content
            or (not content and (delta.image or delta.image_url))
        ):
            self._add_more(delta)

    def _add_more(self, delta: Delta) -> None:
        """Add what comes beside the content: citations, images (as OpenRouter sends them) and sound."""
        for annotation in delta.annotations or ():
            if (cited := annotation.url_citation) is not None:
                self.parts.add_citation(url=cited.url, title=cited.title, text=None)
        images = delta.images or delta.image or delta.image_url
        if images or delta.audio or delta.multi_mod_content:
            self._settle_tags()
            if self._calls.pending:
                self._calls.open_named()
        if images:
            self._media.add_images(images)
        if delta.audio:
            self._add_audio(delta.audio, delta.content)
        if pieces := delta.multi_mod_content:
            for piece in pieces if isinstance(pieces, list) else [pieces]:
                if not isinstance(piece, str) and not piece.words:
                    self._add_media(piece)
                elif not delta.content:
                    self._add_pieces([piece])

    def _add_audio(self, audio: Any, content: Content) -> None:
        """Add sound. Its transcript may repeat the content of the same chunk, or all content so far."""
        transcript = audio.get("transcript") if isinstance(audio, dict) else None
        if transcript and (transcript == content or transcript == self._said_so_far()):
            self._media.has_transcript = True
        else:
            self._media.add_audio(audio)

    def _said_so_far(self) -> str:
        said = "".join(self._said)
        self._said[:] = [said]
        return said

    def _settle_tags(self) -> None:
        """Decide on a closing tag at the end of the text so far, because something other than text follows it."""
        if self._tags is not None:
            self._add_tagged(self._tags.settle())

    def _add_pieces(self, content: Sequence[Piece | str], extra: Extra | None = None) -> None:
        for piece in content:
            if isinstance(piece, str) and extra is not None and is_marked_as_thought(extra):
                self._reasoning.add("extra_content", piece.removeprefix("<thought>").removesuffix("</thought>"))
            elif isinstance(piece, str):
                self._add_text(piece)
            elif is_thought(piece.type, piece):
                self._reasoning.add("content", thought_text(msgspec.structs.asdict(piece)))
            else:
                self._add_text(piece.words)
                if piece.refusal:
                    self.parts.append_text("refusal", piece.refusal)
                self._add_media(piece)

    def _add_media(self, piece: Piece) -> None:
        if piece.type != "text" and not is_thought(piece.type, piece):
            if not piece.words:
                self._settle_tags()
            self._media.add_piece(piece.type, piece, has_text=bool(piece.words))

    def _add_text(self, text: str) -> None:
        self.record_text(text)
        if self._tags is None:
            self.parts.append_text("text", text)
        elif text:
            self._add_tagged(self._tags.feed(text))

    def _think_tags(self, request: ChatRequest | None) -> ThinkTags:
        if request is None:
            return ThinkTags(is_opened=self._quirks.think_opened, may_restate=self._may_restate)
        if request.partial_answer:
            return ThinkTags()
        is_opened = self._quirks.think_opened and request.params.reasoning != "none"
        return ThinkTags(is_opened=is_opened, may_restate=self._may_restate)

    def _add_tagged(self, pieces: list[ThinkPiece]) -> None:
        for kind, text in pieces:
            if kind == "text":
                self.parts.append_text("text", text)
            elif kind == "reasoning":
                self._reasoning.add(TEXT, text)
            else:
                self.parts.withdraw(REASONING_RESTATED)
                self._reasoning.restate(text)
        if self._tags is not None and self._tags.is_done:
            self._tags = None

    def _may_restate(self) -> bool:
        """Return whether all parts so far may be withdrawn: they are only text and reasoning, and can be sent again."""
        return (
            not self.parts.is_rest
            and self.parts.kinds <= {"text", "reasoning"}
            and not self._reasoning_fields.signed
            and not self._calls.pending
            and self._reasoning.is_recorded
        )

    def _correct_assumption(self) -> None:
        """Make reasoning the answer if the model has said nothing else, and no tag shows that it was reasoning."""
        tags, reasoning = self._tags, self._reasoning
        if tags is not None and tags.is_assumed and reasoning.is_from_text and self._may_restate():
            text = reasoning.text
            self.parts.withdraw(ANSWER_RESTATED)
            self.parts.append_text("text", text)

    def _add_message(self, message: Delta) -> None:
        """Add a whole message. If deltas came before it, add only what they lack."""
        if not self.parts.count and not self._calls.pending and not self._said:
            self._add_delta(message)
            return
        kinds, said = self.parts.kinds, self._said_so_far()
        self._add_delta(missing_delta(message, kinds, said, has_transcript=self._media.has_transcript))
        for piece in message.content if isinstance(message.content, list) else ():
            if not isinstance(piece, str) and not (piece.transcript and self._media.has_transcript):
                self._add_media(piece)
        self._chat_calls.complete(message)

    def _report_usage(self) -> None:
        if (reported := self._usage.take()) is not None:
            self.parts.append_delta(reported)
