"""The chunks of a Chat Completions stream as deltas: only the fields that are used are decoded. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from providers.base import Finished, FinishReason, UsageReported
from providers.failures import Failures
from providers.loose_json import documents
from providers.parts import Parts
from providers.route import Quirks
from providers.stream import Unreadable, reread
from providers.think_tags import ThinkTags
from providers.token_counts import chat_cost, chat_usage

_FINISHED: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "sensitive": "content_filter",
}
_OVERLOADED: Final = "insufficient_system_resource"
_FAILED: Final = frozenset({"error", "network_error", _OVERLOADED})


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


class _Piece(Struct, gc=False):
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
    annotations: list[_Annotation] | None = None


class _Choice(Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None


class _Chunk(Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    citations: list[str] | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class ChatDecoder:
    """One stream of chunks. See `stream.Decoder`."""

    def __init__(self, quirks: Quirks, failures: Failures) -> None:
        self.parts = Parts()
        self.finishing = False
        self.done = False
        self._quirks = quirks
        self._failures = failures
        self._finish: str | None = None
        self._usage: dict[str, Any] | None = None
        self._tags = ThinkTags() if quirks.think_tags else None
        self._calls: dict[int | str, str] = {}
        """The id of the newest call with this key."""
        self._nameless: dict[int | str, tuple[str, str]] = {}
        """By key, the id and the arguments of a call whose name is still to come."""
        self._empty: set[int] = set()
        """The calls without arguments so far."""
        self._signed: set[int] = set()
        """The thoughts that have their signature."""
        self._pages: list[str] = []
        """The pages that the answer rests on, as some name them beside it, in every chunk."""

    def event(self, name: str | None, data: bytes) -> bool:
        """See `stream.Decoder`."""
        if data == b"[DONE]":
            self.done = True
            return True
        if name == "error":
            raise self._failures.of_event(_documents(data))
        try:
            chunks = [_decode(data)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            chunks = reread(data, _Chunk)
        for chunk in chunks:
            self._chunk(chunk)
        return True

    def end(self) -> None:
        """See `stream.Decoder`."""
        if self._tags is not None:
            for kind, text in self._tags.close():
                self.parts.say(kind, text)
        whole = self._finish is not None or (self._quirks.ends_without_finish and self.parts.opened > 0)
        if whole:
            # One that was cut off may have had arguments to come, or half a character.
            for part in sorted(self._empty):
                self.parts.add(part, "{}")
            self.parts.close()
        for page in self._pages:
            self.parts.cite(url=page, title=None, text=None)
        self._report()
        if self._finish in _FAILED:
            if self._finish == _OVERLOADED:
                raise self._failures.overloaded(self._finish)
            raise self._failures.of_event({"message": f"finish reason {self._finish}"})
        if not whole:
            raise self._failures.incomplete()
        reason = _FINISHED.get(self._finish or "stop", "stop")
        if reason == "stop":
            # A call that was forced ends with "stop", and a refusal has no reason of its own.
            reason = "tool_calls" if self._calls else "refusal" if self.parts.kind == "refusal" else "stop"
        self.parts.put(Finished(reason))

    def _chunk(self, chunk: _Chunk) -> None:
        if chunk.usage:
            self._usage = chunk.usage
        if chunk.citations:
            self._pages = chunk.citations
        if chunk.error:
            self._report()
            raise self._failures.of_event({"error": chunk.error})
        for choice in chunk.choices or ():
            if choice.index != 0:
                continue
            if choice.usage:
                self._usage = choice.usage
            if choice.delta is not None:
                self._delta(choice.delta)
            if choice.message is not None and not self.parts.opened:
                # Some send the answer whole, and some send it whole once more.
                self._delta(choice.message)
            if choice.finish_reason:
                self._finish = choice.finish_reason
                self.finishing = True

    def _delta(self, delta: _Delta) -> None:
        parts = self.parts
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            parts.say("reasoning", thought)
        if delta.reasoning_details:
            self._details(delta.reasoning_details, told=bool(thought))
        content = delta.content
        if content:
            if not isinstance(content, str):
                self._pieces(content if isinstance(content, list) else [content])
            elif self._tags is None:
                parts.say("text", content)
            else:
                for kind, text in self._tags.feed(content):
                    parts.say(kind, text)
        if delta.refusal:
            parts.say("refusal", delta.refusal)
        for call in delta.tool_calls or ():
            self._call(call)
        for annotation in delta.annotations or ():
            if (cited := annotation.url_citation) is not None:
                self.parts.cite(url=cited.url, title=cited.title, text=None)

    def _pieces(self, content: Sequence[_Piece | str]) -> None:
        for piece in content:
            if isinstance(piece, str):
                self.parts.say("text", piece)
            elif piece.type == "thinking":
                inner = piece.thinking
                for thought in inner if isinstance(inner, list) else [_Piece(text=inner)]:
                    self.parts.say("reasoning", thought.text or "")
            else:
                self.parts.say("text", piece.text or "")

    def _details(self, details: list[_Piece], *, told: bool) -> None:
        """Reasoning as OpenRouter details it; `told`: its text stood in a plainer field already."""
        for detail in details:
            if not told:
                self.parts.say("reasoning", detail.text or detail.summary or "")
            if signature := detail.signature or detail.data:
                if self.parts.kind != "reasoning" or self.parts.newest in self._signed:
                    self.parts.open("reasoning", redacted=detail.data is not None)
                self._signed.add(self.parts.newest)
                self.parts.sign(self.parts.newest, _detail(detail) if self._quirks.reasoning_details else signature)

    def _call(self, call: _ToolCall) -> None:
        function = call.function or _Function()
        key: int | str = call.index if call.index is not None else call.id or len(self._calls) - 1
        arguments = function.arguments or ""
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments)
        part = self.parts.find(key)
        # Some hosts give every call of an answer the same index: another id is another call.
        if part is None or (call.id and function.name and self._calls[key] != call.id):
            call_id, before = self._nameless.pop(key, ("", ""))
            call_id, arguments = call.id or call_id, before + arguments
            if not function.name:
                self._nameless[key] = (call_id, arguments)
                return
            self._calls[key] = call_id
            part = self.parts.call(key, call_id or f"call_{self.parts.opened}", function.name)
            self._empty.add(part)
        if arguments:
            self._empty.discard(part)
            self.parts.add(part, arguments)
        if (extra := call.extra_content) is not None and extra.google is not None:
            self.parts.sign(part, extra.google.thought_signature or "")

    def _report(self) -> None:
        if self._usage:
            self.parts.put(UsageReported(chat_usage(self._usage, self._quirks), chat_cost(self._usage, self._quirks)))
            self._usage = None


def _detail(detail: _Piece) -> str:
    """A reasoning detail as it has to go back, but for its text, which is the part's."""
    fields = ("type", "signature", "data", "id", "format", "index")
    return json.dumps({name: value for name in fields if (value := getattr(detail, name)) is not None})


def _documents(data: bytes) -> list[Any]:
    try:
        return documents(data)
    except ValueError as error:
        raise Unreadable(str(error)) from None
